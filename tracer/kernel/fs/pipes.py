"""Pipes, anonymous and named: a kernel buffer between open file descriptions."""

from __future__ import annotations

import stat
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple, cast

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
from shstk.tracer.kernel.call import RESTART, Args, Call, End, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import (
    POLLERR,
    POLLHUP,
    READABLE,
    WRITABLE,
    OpenFile,
    wake,
)
from shstk.tracer.kernel.fs.inode import DEV_ANON, Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import signals

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_SLOTS: Final = 16  # PIPE_DEF_BUFFERS
SIZE_MAX: Final = 1 << 20  # fs.pipe-max-size


@dataclass
class Buffer:
    """A page of a pipe. start: where the data, of which some may have been read, begins in it.
    packet: a read takes nothing after it, and drops what it leaves (O_DIRECT)."""

    data: bytearray
    start: int = 0
    packet: bool = False

    def takes(self, n: int) -> bool:
        """Whether n more bytes fit into its page."""
        return not self.packet and self.start + len(self.data) + n <= PAGE


@dataclass(eq=False)
class Fifo(Inode):
    """A pipe or a named pipe. readers, writers: open file descriptions of each end now;
    reads_opened, writes_opened: how many have been opened so far. slots: how many pages it may
    have."""

    buffers: deque[Buffer] = field(default_factory=deque)
    slots: int = _SLOTS
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
        """Bytes that surely fit."""
        return max(self.fifo.slots - len(self.fifo.buffers), 0) * PAGE

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        if not self.fifo.buffers and self.fifo.writers:
            return None
        out = bytearray()
        for buffer in self.fifo.buffers:
            out += buffer.data[: n - len(out)]
            if len(out) == n or buffer.packet:
                break
        return bytes(out)

    def advance(self, k: Kernel, n: int) -> None:
        buffers, left = self.fifo.buffers, n
        was_full, before = len(buffers) >= self.fifo.slots, len(buffers)
        while left > 0:
            first = buffers[0]
            taken = min(left, len(first.data))
            del first.data[:taken]
            first.start += taken
            left -= taken
            if first.packet:
                left = 0
            if not first.data or first.packet:
                buffers.popleft()
        if n:  # pipe_read() wakes writers when it frees the first page of a full pipe
            self.notify(k, WRITABLE if was_full and len(buffers) < before else 0)

    def admit(self, k: Kernel, t: Task, n: int) -> None:
        if n and not self.fifo.readers:
            signals.send(k, t, SIGNALS["SIGPIPE"], SI_USER, sender=t.pid)
            raise Errno("EPIPE")

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        self.admit(k, t, len(data))
        done = self._merge(data)
        while done < len(data) and len(self.fifo.buffers) < self.fifo.slots:
            page = bytearray(data[done : done + PAGE])
            self.fifo.buffers.append(Buffer(page, packet=bool(self.flags & O_DIRECT)))
            done += len(page)
        if not done and data:
            return None
        self.notify(k, READABLE)
        return done

    def _merge(self, data: bytes) -> int:
        """Put the part of a write that doesn't fill a page into the last page, if it fits there."""
        part = len(data) % PAGE
        if not part or not self.fifo.buffers or not self.fifo.buffers[-1].takes(part):
            return 0
        self.fifo.buffers[-1].data += data[:part]
        return part

    def unbroken(self, n: int) -> int:
        """A read takes whole buffers, a write fills whole pages."""
        if not self.readable:
            return n // PAGE * PAGE
        sizes = accumulate(len(buffer.data) for buffer in self.fifo.buffers)
        return max((size for size in sizes if size <= n), default=0)

    def ready(self, k: Kernel) -> int:
        bits = 0
        if self.readable:
            bits |= READABLE if self.fifo.buffers else 0
            bits |= 0 if self.fifo.writers else POLLHUP
        if self.writable:
            bits |= WRITABLE if len(self.fifo.buffers) < self.fifo.slots else 0
            bits |= 0 if self.fifo.readers else POLLERR
        return bits

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if request != FIONREAD:
            raise Errno("ENOTTY")
        usermem.put_u32(k, t, arg, sum(len(buffer.data) for buffer in self.fifo.buffers))
        return 0

    def released(self, k: Kernel) -> None:
        self.fifo.readers -= self.readable
        self.fifo.writers -= self.writable
        if not self.fifo.readers and not self.fifo.writers:
            self.fifo.buffers.clear()
        self.notify(k)


def _fifo(t: Task, fd: int) -> Fifo:
    """get_pipe_info(). Errno EBADF."""
    inode = t.files.get(fd).inode
    if not isinstance(inode, Fifo):
        raise Errno("EBADF")
    return inode


def get_pipe_size(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """F_GETPIPE_SZ."""
    return _fifo(t, fd).slots * PAGE


def set_pipe_size(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """F_SETPIPE_SZ, pipe_set_size(): a power of two, at least a page. Errno EINVAL; EPERM: more
    than an ordinary user may have; EBUSY: its contents would not fit."""
    fifo, wanted = _fifo(t, fd), arg & 0xFFFF_FFFF
    if wanted > 1 << 31:
        raise Errno("EINVAL")
    size = max(PAGE, 1 << (wanted - 1).bit_length()) if wanted else PAGE
    if size // PAGE > fifo.slots and size > SIZE_MAX:
        raise Errno("EPERM")
    if size // PAGE < len(fifo.buffers):
        raise Errno("EBUSY")
    fifo.slots = size // PAGE
    wake(k, fifo, WRITABLE)
    return size


class _Opening(NamedTuple):
    """A blocked open. others: how often the other end had been opened when it began."""

    end: PipeEnd
    others: int


def open_fifo(k: Kernel, t: Task, inode: Fifo, flags: int, path: str) -> PipeEnd | Wait | End:
    """Open a named pipe, which waits for an open of the other end, or a pipe by /proc/PID/fd.

    Errno ENXIO: a nonblocking writer finds no reader.
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
        return RESTART
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
