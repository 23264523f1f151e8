"""Descriptors 0, 1 and 2 of the first process: pipes to and from the host, or a terminal."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from shstk.schemas.uapi import FIONREAD, O_ACCMODE, O_RDONLY, O_WRONLY
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import POLLHUP, READABLE, WRITABLE, Files, OpenFile
from shstk.tracer.kernel.fs.inode import DEV_ANON, Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.tty.terminal import terminal_files

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task


@dataclass(eq=False)
class Stream(Inode):
    fd: int = 0
    taken: int = 0  # bytes of standard input that have been read


class Input(OpenFile):
    """Standard input: a pipe that holds all the input from the start and has no writer."""

    recorded = False
    splices_out = False

    @property
    def stream(self) -> Stream:
        return cast(Stream, self.inode)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        data, start = k.sandbox.stdin, self.stream.taken
        if self.inode.input is None:
            self.inode.input = k.rec.input("/dev/stdin", data, self.inode.mode, k.here())
        return data[start : start + n]

    def advance(self, k: Kernel, n: int) -> None:
        self.stream.taken += n

    def ready(self, k: Kernel) -> int:
        return READABLE if self._left(k) else POLLHUP

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if request != FIONREAD:
            raise Errno("ENOTTY")
        usermem.put_u32(k, t, arg, self._left(k))
        return 0

    def _left(self, k: Kernel) -> int:
        return len(k.sandbox.stdin) - self.stream.taken


class Output(OpenFile):
    """Standard output or error: each write becomes an output row and is passed to the host."""

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        if data:
            fd = cast(Stream, self.inode).fd
            k.rec.row("output", seq=k.seq(), tid=t.tid, mm=t.mm_id, fd=fd, bytes=data)
            k.stdout_write(fd, data)
        return len(data)

    def ready(self, k: Kernel) -> int:
        return WRITABLE


def open_stream(inode: Stream, flags: int, path: str) -> OpenFile:
    """Errno EACCES for the wrong access mode."""
    wanted = O_WRONLY if inode.fd else O_RDONLY
    if flags & O_ACCMODE != wanted:
        raise Errno("EACCES")
    return (Output if inode.fd else Input)(inode, flags, path)


def standard_files(k: Kernel) -> Files:
    if k.terminal is not None:
        return Files(dict(enumerate(terminal_files(k))))
    files: dict[int, OpenFile] = {}
    for fd in range(3):
        ino = k.sandbox.new_ino()
        inode = Stream(ino, stat.S_IFIFO | 0o600, dev=DEV_ANON, fd=fd)
        files[fd] = open_stream(inode, O_WRONLY if fd else O_RDONLY, f"pipe:[{ino}]")
    return Files(files)
