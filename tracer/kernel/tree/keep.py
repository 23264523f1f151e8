"""Write the guest's changes to the host at the end of a run, to the directories given for that.

An overlay's directory gets the changed files, and whiteouts for the removed ones (hosttree.py). A
directory bound with `:rw` is changed itself. Names, contents, links and the permission bits of
files are kept. Times, set-id bits and changed permissions of existing directories are not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shstk.schemas.errors import CannotWrite
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import Directory, Inode, Regular, Symlink
from shstk.tracer.kernel.fs.pipes import Fifo
from shstk.tracer.kernel.time.clock import EPOCH_NS
from shstk.tracer.kernel.tree.hosttree import OPAQUE, WHITEOUT, HostTree, raw, text
from shstk.tracer.kernel.tree.staging import Staging

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_BITS: Final = 0o777


def keep(k: Kernel, top: Inode, host: HostTree, beneath: HostTree | None) -> None:
    """top: a directory, or a single bound file. beneath: the tree that `host` is an overlay on.

    Raises CannotWrite.
    """
    try:
        if isinstance(top, Directory):
            with Staging(host.place) as staging:
                _Keeper(k, host, staging, beneath).keep(top)
        elif isinstance(top, Regular) and (top.origin is None or top.ctime != EPOCH_NS):
            folder, name = host.place.around()
            with Staging(folder) as staging:
                new = staging.file(top.contents(), top.mode & _BITS)
                staging.begin()
                staging.put(name, new)
    except Errno as error:
        raise CannotWrite(
            f"{host.root}: it was changed while the guest ran: a file of it can't be read any more",
            "nothing of the guest's changes was written to it",
        ) from error
    except OSError as error:
        raise CannotWrite(
            f"{host.root}: {error.strerror or error}",
            "not all changes of the guest were written to the host",
        ) from error


def _moved(inode: Inode, guest_path: str) -> bool:
    return inode.origin is None or inode.origin.guest_path != guest_path


def _changed(inode: Inode, guest_path: str) -> bool:
    """Whether it differs from the host's file of this name."""
    return _moved(inode, guest_path) or inode.ctime != EPOCH_NS


class _Keeper:
    def __init__(
        self, k: Kernel, host: HostTree, staging: Staging, beneath: HostTree | None
    ) -> None:
        self.k = k
        self.host = host
        self.staging = staging
        self.beneath = beneath
        self.linked: dict[Inode, bytes] = {}  # inode -> the first staged name, for hard links

    def keep(self, top: Directory) -> None:
        # All is read before the first file moves: a file may have replaced another one.
        changes = [
            (path, inode, self._stage(inode))
            for path, inode in self._changes(top)
            if self._may_change(path, inode)
        ]
        self.staging.begin()
        for path, inode, staged in changes:
            if inode is None:
                self._remove(path)
            else:
                self._put(path, inode, staged)

    def _may_change(self, path: str, inode: Inode | None) -> bool:
        if self.beneath is not None and os.path.basename(path).startswith(WHITEOUT):
            name = os.path.basename(path)
            self.k.warn(f"{name} is not kept: an overlay reserves names that begin with .wh.")
            return False
        if self.host.hides(path):
            if inode is not None:  # what the guest only looked for is None too
                self.k.warn(f"{path} is not written to {self.host.root}: that name is shstk's own")
            return False
        return True

    def _changes(self, top: Directory) -> Iterator[tuple[str, Inode | None]]:
        """(path, inode) of each difference, directories before their entries; None: removed."""
        waiting: list[tuple[str, Inode | None, bool]] = [("", top, False)]
        while waiting:
            path, inode, new = waiting.pop()
            if new:
                yield path, inode
            if isinstance(inode, Directory):
                waiting += [*self._children(inode, path, new)][::-1]

    def _children(
        self, directory: Directory, path: str, new: bool
    ) -> Iterator[tuple[str, Inode | None, bool]]:
        """new: the host does not have the directory."""
        if new:
            for name in directory.names(self.k):
                if (child := directory.lookup(self.k, name)) is not None:
                    yield os.path.join(path, name), child, True
            return
        for name, child in sorted(directory.entries.items()):
            at = os.path.join(path, name)
            if child is None:
                yield at, None, True
            elif child.mount:
                continue
            elif isinstance(child, Directory) and not _moved(child, child.path()):
                yield at, child, False
            elif _changed(child, directory.child_path(name)):
                yield at, child, True

    def _stage(self, inode: Inode | None) -> bytes | None:
        """Write what a file will be. None: nothing needs to be written."""
        if inode in self.linked:
            return self.staging.link(self.linked[inode])
        match inode:
            case Regular():
                staged = self.staging.file(inode.contents(), inode.mode & _BITS)
            case Symlink():
                staged = self.staging.symlink(raw(inode.target))
            case Fifo():
                staged = self.staging.fifo(inode.mode & _BITS)
            case _:
                return None
        self.linked[inode] = staged
        return staged

    def _remove(self, path: str) -> None:
        self.staging.remove(raw(path))
        if self.beneath is not None and self.beneath.mode(path) is not None:
            folder, name = os.path.split(path)
            self._mark(os.path.join(folder, WHITEOUT + name))

    def _put(self, path: str, inode: Inode, staged: bytes | None) -> None:
        folder, name = os.path.split(path)
        if self.beneath is not None:
            self.staging.parents(raw(path), self._mode_beneath)
            self.staging.remove(raw(os.path.join(folder, WHITEOUT + name)))
        if staged is not None:
            self.staging.put(raw(path), staged)
        elif isinstance(inode, Directory):
            self.staging.folder(raw(path), inode.mode & _BITS)
            if self.beneath is not None:
                self._mark(os.path.join(path, OPAQUE))
        else:
            self.staging.remove(raw(path))  # a socket or device is not kept

    def _mark(self, path: str) -> None:
        self.staging.parents(raw(path), self._mode_beneath)
        self.staging.put(raw(path), self.staging.file(b"", 0o644))

    def _mode_beneath(self, path: bytes) -> int | None:
        mode = self.beneath.mode(text(path)) if self.beneath is not None else None
        return None if mode is None else mode & _BITS
