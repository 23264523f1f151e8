"""Pipes: a buffer in the kernel between two open file descriptions."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from tracer.kernel import signals, usermem
from tracer.kernel.call import Args, Call
from tracer.kernel.errno import Errno
from tracer.kernel.files import (
    O_ACCMODE,
    O_CLOEXEC,
    O_DIRECT,
    O_NONBLOCK,
    O_RDONLY,
    O_WRONLY,
    POLLERR,
    POLLHUP,
    READABLE,
    WRITABLE,
    OpenFile,
)
from tracer.kernel.inode import DEV_ANON, Inode
from tracer.kernel.ioctl import FIONREAD

if TYPE_CHECKING:
    from tracer.kernel.kernel import Kernel
    from tracer.kernel.task import Task

CAPACITY: Final = 65536
ATOMIC: Final = 4096  # PIPE_BUF: a write of this much is never split


@dataclass(eq=False)
class Fifo(Inode):
    buffer: bytearray = field(default_factory=bytearray)
    readers: int = 0  # open file descriptions
    writers: int = 0


class PipeEnd(OpenFile):
    @property
    def fifo(self) -> Fifo:
        return cast(Fifo, self.inode)

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if request != FIONREAD:
            raise Errno("ENOTTY")
        usermem.put_u32(k, t, arg, len(self.fifo.buffer))
        return 0


class ReadEnd(PipeEnd):
    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        if not self.fifo.buffer and self.fifo.writers:
            return None
        return bytes(self.fifo.buffer[:n])

    def advance(self, k: Kernel, n: int) -> None:
        del self.fifo.buffer[:n]
        if n:
            self.notify(k)

    def ready(self, k: Kernel) -> int:
        bits = READABLE if self.fifo.buffer else 0
        return bits | (0 if self.fifo.writers else POLLHUP)

    def released(self, k: Kernel) -> None:
        self.fifo.readers -= 1
        self.notify(k)


class WriteEnd(PipeEnd):
    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        if not self.fifo.readers:
            signals.send(k, t, 13, 0)  # SIGPIPE, SI_USER
            raise Errno("EPIPE")
        room = CAPACITY - len(self.fifo.buffer)
        if data and room < min(len(data), ATOMIC):
            return None
        self.fifo.buffer += data[:room]
        self.notify(k)
        return min(len(data), room)

    def ready(self, k: Kernel) -> int:
        bits = WRITABLE if CAPACITY - len(self.fifo.buffer) >= ATOMIC else 0
        return bits | (0 if self.fifo.readers else POLLERR)

    def released(self, k: Kernel) -> None:
        self.fifo.writers -= 1
        self.notify(k)


def make_pipe(k: Kernel, flags: int) -> tuple[ReadEnd, WriteEnd]:
    ino = k.sandbox.new_ino()
    fifo = Fifo(ino, stat.S_IFIFO | 0o600, dev=DEV_ANON, readers=1, writers=1)
    path = f"pipe:[{ino}]"
    return ReadEnd(fifo, O_RDONLY | flags, path), WriteEnd(fifo, O_WRONLY | flags, path)


def open_fifo(inode: Fifo, flags: int, path: str) -> OpenFile:
    """Through /proc/PID/fd: another description of an end."""
    match flags & O_ACCMODE:
        case 0:
            inode.readers += 1
            return ReadEnd(inode, flags, path)
        case 1:
            inode.writers += 1
            return WriteEnd(inode, flags, path)
    raise Errno("EINVAL")


def sys_pipe2(k: Kernel, t: Task, a: Args) -> int:
    addr, flags = a[0], a[1] & 0xFFFF_FFFF
    if flags & ~(O_CLOEXEC | O_DIRECT | O_NONBLOCK):
        raise Errno("EINVAL")
    cloexec = bool(flags & O_CLOEXEC)
    ends = make_pipe(k, flags & ~O_CLOEXEC)
    fds: list[int] = []
    try:
        for end in ends:
            fds.append(t.files.add(t, end, cloexec))
        usermem.put(k, t, addr, b"".join(fd.to_bytes(4, "little") for fd in fds))
    except Errno:
        for fd in fds:
            t.files.close(k, fd)
        raise
    return 0


CALLS: Final = (Call(59, "pipe2", sys_pipe2),)
