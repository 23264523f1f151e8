"""At the end of a run: what the guest changed, written to the host's directories it was meant for.

An overlay's directory gets the changed files and marks for what is gone (hosttree.py); a directory
bound with `:rw` gets the changes themselves. Names, contents, links and files' permission bits
are kept; times, set-id bits and changed permissions of directories that were there are not.
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
    """top: a directory, or a single file that was bound. beneath: what `host` is an overlay on.

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
            "what the guest wrote could not all be kept",
        ) from error


def _moved(inode: Inode, guest_path: str) -> bool:
    return inode.origin is None or inode.origin.guest_path != guest_path


def _changed(inode: Inode, guest_path: str) -> bool:
    """Whether it is not what the host's tree holds under this name."""
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
        self.linked: dict[Inode, str] = {}  # files with several names -> the first one written

    def keep(self, top: Directory) -> None:
        # All is read before anything is written: a file may have moved to another's place.
        for path, inode in list(self._changes(top, "")):
            if inode is None:
                self._remove(path)
            else:
                self._put(path, inode)

    def _changes(self, directory: Directory, path: str) -> Iterator[tuple[str, Inode | None]]:
        """What differs in a directory that the host's tree holds too: None is gone."""
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
                self.k.warn(f"{name} is not kept: in an overlay its name is a mark")
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
        """The directories of an overlay that are only there for what they hold."""
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
