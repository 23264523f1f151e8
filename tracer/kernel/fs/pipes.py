"""Pipes, anonymous and named: a kernel buffer between open file descriptions."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from shstk.schemas.uapi import (
    FIONREAD,
    O_ACCMODE,
    O_CLOEXEC,
    O_DIRECT,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PAGE,
    SI_USER,
    SIGNALS,
)
from shstk.tracer.kernel.call import Args, Call, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import POLLERR, POLLHUP, READABLE, WRITABLE, OpenFile
from shstk.tracer.kernel.fs.inode import DEV_ANON, Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import signals

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

CAPACITY: Final = 65536
ATOMIC: Final = 4096  # PIPE_BUF: a write of up to this size is never split


@dataclass(eq=False)
class Fifo(Inode):
    """A pipe or a named pipe. readers, writers: open file descriptions of each end now;
    reads_opened, writes_opened: how many have been opened so far."""

    buffer: bytearray = field(default_factory=bytearray)
    readers: int = 0
    writers: int = 0
    reads_opened: int = 0
    writes_opened: int = 0


class PipeEnd(OpenFile):
    """An end of a pipe; one opened O_RDWR is both."""

    splices_out = False

    def __init__(self, inode: Fifo, flags: int, path: str) -> None:
        super().__init__(inode, flags, path)
        inode.readers += self.readable
        inode.reads_opened += self.readable
        inode.writers += self.writable
        inode.writes_opened += self.writable

    @property
    def fifo(self) -> Fifo:
        return cast(Fifo, self.inode)

    @property
    def room(self) -> int:
        return CAPACITY - len(self.fifo.buffer)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        if not self.fifo.buffer and self.fifo.writers:
            return None
        return bytes(self.fifo.buffer[:n])

    def advance(self, k: Kernel, n: int) -> None:
        del self.fifo.buffer[:n]
        if n:
            self.notify(k)

    def admit(self, k: Kernel, t: Task, n: int) -> None:
        if n and not self.fifo.readers:
            signals.send(k, t, SIGNALS["SIGPIPE"], SI_USER, sender=t.pid)
            raise Errno("EPIPE")

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        self.admit(k, t, len(data))
        room = self.room
        if data and room < min(len(data), ATOMIC):
            return None
        self.fifo.buffer += data[:room]
        self.notify(k)
        return min(len(data), room)

    def unbroken(self, n: int) -> int:
        return n // PAGE * PAGE

    def ready(self, k: Kernel) -> int:
        bits = 0
        if self.readable:
            bits |= READABLE if self.fifo.buffer else 0
            bits |= 0 if self.fifo.writers else POLLHUP
        if self.writable:
            bits |= WRITABLE if self.room >= ATOMIC else 0
            bits |= 0 if self.fifo.readers else POLLERR
        return bits

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if request != FIONREAD:
            raise Errno("ENOTTY")
        usermem.put_u32(k, t, arg, len(self.fifo.buffer))
        return 0

    def pipe_size(self) -> int:
        return CAPACITY

    def released(self, k: Kernel) -> None:
        self.fifo.readers -= self.readable
        self.fifo.writers -= self.writable
        if not self.fifo.readers and not self.fifo.writers:
            self.fifo.buffer.clear()
        self.notify(k)


@dataclass(frozen=True)
class _Opening:
    """A blocked open. others: how often the other end had been opened when it began."""

    end: PipeEnd
    others: int


def open_fifo(k: Kernel, t: Task, inode: Fifo, flags: int, path: str) -> PipeEnd | Wait:
    """Open a named pipe, which waits for an open of the other end, or a pipe by /proc/PID/fd.

    Errno ENXIO: a nonblocking writer finds no reader; EINTR.
    """
    assert t.blocked is not None
    mode, opening = flags & O_ACCMODE, t.blocked.state
    if not isinstance(opening, _Opening):
        if mode == O_WRONLY and flags & O_NONBLOCK and not inode.readers:
            raise Errno("ENXIO")
        partners = inode.readers if mode == O_WRONLY else inode.writers
        end = PipeEnd(inode, flags, path)
        t.blocked.state = opening = _Opening(end, _others(inode, mode))
        end.notify(k)
        if mode == O_RDWR or flags & O_NONBLOCK or partners or inode.dev == DEV_ANON:
            return end
    if _others(inode, mode) != opening.others:
        return opening.end
    if t.blocked.woken == "signal":
        opening.end.released(k)
        raise Errno("EINTR")
    return Wait("fifo", opening.end.key)


def _others(inode: Fifo, mode: int) -> int:
    """How often the other end has been opened."""
    return inode.reads_opened if mode == O_WRONLY else inode.writes_opened


def sys_pipe2(k: Kernel, t: Task, a: Args) -> int:
    addr, flags = a[0], a[1] & 0xFFFF_FFFF
    if flags & ~(O_CLOEXEC | O_DIRECT | O_NONBLOCK):
        raise Errno("EINVAL")
    cloexec, status = bool(flags & O_CLOEXEC), flags & ~O_CLOEXEC
    inode = Fifo(k.sandbox.new_ino(), stat.S_IFIFO | 0o600, dev=DEV_ANON)
    ends = [PipeEnd(inode, mode | status, f"pipe:[{inode.ino}]") for mode in (O_RDONLY, O_WRONLY)]
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


CALLS: Final = (Call("pipe2", sys_pipe2),)
