"""Write the guest's changes to the host at the end of a run, to the directories given for that.

An overlay's directory gets the changed files, and whiteouts for the removed ones (hosttree.py). A
directory bound with `:rw` is changed itself. Names, contents, links and the permission bits of
files are kept. Times, set-id bits and changed permissions of existing directories are not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shstk.schemas.errors import CannotWrite
from shstk.tracer.kernel.fs.inode import Directory, Inode, Regular, Symlink
from shstk.tracer.kernel.fs.pipes import Fifo
from shstk.tracer.kernel.time.clock import EPOCH_NS
from shstk.tracer.kernel.tree.hosttree import OPAQUE, WHITEOUT, HostTree

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_BITS: Final = 0o777


def keep(k: Kernel, top: Inode, host: str, beneath: HostTree | None) -> None:
    """top: a directory, or a single bound file. beneath: the tree that `host` is an overlay on.

    Raises CannotWrite.
    """
    try:
        if isinstance(top, Directory):
            os.makedirs(host, exist_ok=True)
            _Keeper(k, host, beneath).keep(top)
        elif isinstance(top, Regular) and (top.origin is None or top.ctime != EPOCH_NS):
            _write(top, host)
    except OSError as error:
        raise CannotWrite(
            f"{error.filename or host}: {error.strerror or error}",
            "not all changes of the guest were written to the host",
        ) from error


def _moved(inode: Inode, guest_path: str) -> bool:
    return inode.origin is None or inode.origin.guest_path != guest_path


def _changed(inode: Inode, guest_path: str) -> bool:
    """Whether it differs from the host's file of this name."""
    return _moved(inode, guest_path) or inode.ctime != EPOCH_NS


def _write(file: Regular, host: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    descriptor = os.open(host, flags, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(file.contents())
        os.fchmod(descriptor, file.mode & _BITS)


class _Keeper:
    def __init__(self, k: Kernel, host: str, beneath: HostTree | None) -> None:
        self.k = k
        self.host = host
        self.beneath = beneath
        self.linked: dict[Inode, str] = {}  # inode -> the first name written, for hard links

    def keep(self, top: Directory) -> None:
        # Read everything before the first write: a file may have replaced another one.
        for path, inode in list(self._changes(top, "")):
            if inode is None:
                self._remove(path)
            else:
                self._put(path, inode)

    def _changes(self, directory: Directory, path: str) -> Iterator[tuple[str, Inode | None]]:
        """(path, inode) of each difference in a directory that the host has too; None: removed."""
        for name, child in sorted(directory.entries.items()):
            at = os.path.join(path, name)
            if child is None:
                yield at, None
            elif child.mount:
                continue
            elif isinstance(child, Directory) and not _moved(child, child.path()):
                yield from self._changes(child, at)
            elif _changed(child, directory.child_path(name)):
                yield from self._whole(child, at)

    def _whole(self, inode: Inode, path: str) -> Iterator[tuple[str, Inode]]:
        yield path, inode
        if isinstance(inode, Directory):
            for name in inode.names(self.k):
                if (child := inode.lookup(self.k, name)) is not None:
                    yield from self._whole(child, os.path.join(path, name))
        elif isinstance(inode, Regular):
            inode.contents()

    def _remove(self, path: str) -> None:
        self._clear(path)
        if self.beneath is not None and self.beneath.mode(path) is not None:
            folder, name = os.path.split(path)
            self._mark(os.path.join(folder, WHITEOUT + name))

    def _put(self, path: str, inode: Inode) -> None:
        host = self._on_host(path)
        folder, name = os.path.split(path)
        if self.beneath is not None:
            if name.startswith(WHITEOUT):
                self.k.warn(f"{name} is not kept: an overlay reserves names that begin with .wh.")
                return
            self._parents(path)
            self._clear(os.path.join(folder, WHITEOUT + name))
        self._clear(path)
        first = self.linked.setdefault(inode, path)
        if first != path:
            os.link(self._on_host(first), host)
            return
        match inode:
            case Regular():
                _write(inode, host)
            case Symlink():
                os.symlink(inode.target, host)
            case Fifo():
                os.mkfifo(host, inode.mode & _BITS)
            case Directory():
                os.mkdir(host, inode.mode & _BITS | 0o700)
                if self.beneath is not None:
                    self._mark(os.path.join(path, OPAQUE))

    def _on_host(self, path: str) -> str:
        return os.path.join(self.host, path)

    def _mark(self, path: str) -> None:
        self._parents(path)
        with open(self._on_host(path), "wb"):
            pass

    def _parents(self, path: str) -> None:
        """Create the parent directories in the overlay."""
        parts = path.split("/")[:-1]
        for n in range(1, len(parts) + 1):
            folder = "/".join(parts[:n])
            if not os.path.isdir(self._on_host(folder)):
                os.mkdir(self._on_host(folder))
                mode = self.beneath.mode(folder) if self.beneath else None
                if mode is not None:
                    os.chmod(self._on_host(folder), mode & _BITS)

    def _clear(self, path: str) -> None:
        host = self._on_host(path)
        if os.path.isdir(host) and not os.path.islink(host):
            shutil.rmtree(host)
        elif os.path.lexists(host):
            os.unlink(host)
