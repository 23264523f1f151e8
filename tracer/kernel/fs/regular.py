"""Open regular files and directories."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, cast

from shstk.schemas.uapi import (
    O_APPEND,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
    SI_USER,
    SIGNALS,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import seals
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.inode import (
    Directory,
    Regular,
)
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.time.clock import realtime_ns
from shstk.tracer.kernel.tree.hosttree import raw

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

FILE_MAX: Final = 2**63 - 1


def seek_to(pos: int, size: int, offset: int, whence: int) -> int:
    """The arithmetic of lseek. A file is one extent of data with a hole at its end."""
    if whence in (SEEK_DATA, SEEK_HOLE):
        if not 0 <= offset < size:
            raise Errno("ENXIO")
        return offset if whence == SEEK_DATA else size
    bases = {SEEK_SET: 0, SEEK_CUR: pos, SEEK_END: size}
    if whence not in bases:
        raise Errno("EINVAL")
    target = bases[whence] + offset
    if not 0 <= target <= FILE_MAX:
        raise Errno("EINVAL")
    return target


def check_size(k: Kernel, t: Task, size: int) -> None:
    """Check `size` against RLIMIT_FSIZE. Errno EFBIG, with SIGXFSZ."""
    if size > t.rlimit("FSIZE"):
        signals.send(k, t, SIGNALS["SIGXFSZ"], SI_USER, sender=t.pid)
        raise Errno("EFBIG")


def resize(k: Kernel, inode: Regular, size: int) -> None:
    """ftruncate. Errno EPERM (a seal), ENOSPC."""
    seals.check_size(inode, size)
    inode.see(k)
    k.sandbox.charge(size - inode.size)
    inode.truncate(k, size)
    inode.changed(realtime_ns(k), contents=True)


def punch_hole(k: Kernel, inode: Regular, offset: int, length: int) -> None:
    """FALLOC_FL_PUNCH_HOLE. Errno EPERM for a sealed file."""
    if inode.seals & seals.WRITE_SEALS:
        raise Errno("EPERM")
    length = min(length, inode.size - offset)
    if length > 0:
        inode.clear(k, offset, length)
        inode.changed(realtime_ns(k), contents=True)


class RegularFile(OpenFile):
    positioned = True
    pollable = False
    nowait = False  # tmpfs does not set it

    def __init__(self, inode: Regular, flags: int, path: str) -> None:
        super().__init__(inode, flags, path)
        inode.writers += self.writable
        inode.readers += not self.writable

    @property
    def regular(self) -> Regular:
        return cast(Regular, self.inode)

    @property
    def recorded(self) -> bool:  # type: ignore[override]
        return self.inode.input is None

    def peek_at(self, k: Kernel, t: Task, n: int, offset: int) -> bytes:
        self.inode.see(k)
        return self.regular.read(offset, n)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        return self.peek_at(k, t, n, self.pos)

    def write_at(self, k: Kernel, t: Task, data: bytes, offset: int) -> int:
        return self.store(k, t, data, offset, bool(self.flags & O_APPEND))

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        return self.store(k, t, data, None, bool(self.flags & O_APPEND))

    def store(self, k: Kernel, t: Task, data: bytes, at: int | None, appends: bool) -> int:
        """Write at an offset, or (None) at the file's position, which moves; appends: at the end
        instead."""
        start = self.inode.size if appends else self.pos if at is None else at
        done = self._store(k, t, data, start)
        if at is None:
            self.pos = start + done
        return done

    def _store(self, k: Kernel, t: Task, data: bytes, offset: int) -> int:
        self.inode.see(k)
        if not data:
            return 0
        check_size(k, t, offset + 1)
        data = data[: t.rlimit("FSIZE") - offset]
        data = data[: seals.check_write(self.regular, offset, len(data))]
        if offset + len(data) > self.inode.size:
            resize(k, self.regular, offset + len(data))
        self.regular.store(k, offset, data)
        self.inode.changed(realtime_ns(k), contents=True)
        return len(data)

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        if whence >= SEEK_END:
            self.inode.see(k)
        self.pos = seek_to(self.pos, self.inode.size, offset, whence)
        return self.pos

    def mapped_inode(self) -> Regular:
        return self.regular

    def released(self, k: Kernel) -> None:
        """Free the storage of an unlinked file; its mappings keep their frames."""
        self.regular.writers -= self.writable
        self.regular.readers -= not self.writable
        if self.inode.nlink == 0 and not isinstance(self.regular.data, bytes | None):
            k.sandbox.charge(-self.inode.size)
            if isinstance(self.regular.data, bytearray):
                self.regular.data = b""


class DirectoryFile(OpenFile):
    """The position is an index into the listing, which is read again at position 0."""

    positioned = True
    pollable = False
    reads_nothing = True
    splices_out = False

    _listing: tuple[tuple[str, int, int], ...] = ()  # name, ino, DT_* type

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        raise Errno("EISDIR")

    def peek_at(self, k: Kernel, t: Task, n: int, offset: int) -> bytes:
        raise Errno("EISDIR")

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        if whence > SEEK_CUR:
            raise Errno("EINVAL")
        self.pos = seek_to(self.pos, 0, offset, whence)
        return self.pos

    def entries(self, k: Kernel, room: int) -> tuple[bytes, int]:
        """getdents64: the records that fit in `room` bytes, and the position after them.

        Errno EINVAL if not even one fits, ENOENT if the directory was removed.
        """
        directory = cast(Directory, self.inode)
        if directory.nlink == 0:
            raise Errno("ENOENT")
        if self.pos == 0:
            directory.see(k)
            self._listing = tuple(_list(k, directory))
        out, pos = bytearray(), self.pos
        for name, ino, kind in self._listing[pos:]:
            entry = _record(raw(name), ino, kind, pos + 1)
            if len(out) + len(entry) > room:
                break
            out += entry
            pos += 1
        if not out and pos < len(self._listing):
            raise Errno("EINVAL")
        return bytes(out), pos


def _list(k: Kernel, directory: Directory) -> list[tuple[str, int, int]]:
    rows = [(".", directory), ("..", directory.parent)]
    found = [(name, directory.lookup(k, name)) for name in directory.names(k)]
    rows += [(name, inode) for name, inode in found if inode is not None]  # type: ignore[misc]
    return [(name, inode.ino, inode.mode >> 12) for name, inode in rows]


def _record(name: bytes, ino: int, kind: int, next_pos: int) -> bytes:
    """struct linux_dirent64."""
    length = (19 + len(name) + 1 + 7) & ~7
    return struct.pack("<QqHB", ino, next_pos, length, kind) + name.ljust(length - 19, b"\0")
