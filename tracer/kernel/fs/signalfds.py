"""signalfd: a descriptor whose reader dequeues its own pending signals."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import O_CLOEXEC, O_NONBLOCK, O_RDWR, SI_TIMER, SIGSET_SIZE
from shstk.tracer.kernel.call import Args, Call, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.eventfds import Anonymous, anonymous
from shstk.tracer.kernel.fs.files import READABLE
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import siginfo, signals
from shstk.tracer.kernel.signal.siginfo import NEVER_BLOCKED, SIGCHLD
from shstk.tracer.kernel.signal.signals import SIGNAL_FILES
from shstk.tracer.kernel.task import Siginfo

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.inode import Inode
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

# struct signalfd_siginfo: signo, errno, code, pid, uid, fd, tid, band, overrun, trapno, status,
# int, ptr, utime, stime, addr
_INFO: Final = struct.Struct("<IiiIIiIIIIiiQQQQ")


class SignalFd(Anonymous):
    def __init__(self, inode: Inode, flags: int, mask: int) -> None:
        super().__init__(inode, flags, "anon_inode:[signalfd]")
        self.mask = mask

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        """Dequeue the signals at once: one that can't be copied out is lost, as on Linux."""
        if n < siginfo.SIZE:
            raise Errno("EINVAL")
        out = b""
        while len(out) + siginfo.SIZE <= n:
            info = signals.dequeue(k, t, ~self.mask)
            if info is None:
                break
            out += _pack(info)
        return out or None

    def ready(self, k: Kernel) -> int:
        pending = signals.pending_set((k.current, k.current.process))
        return READABLE if pending & self.mask else 0

    def details(self, k: Kernel) -> str:
        return f"sigmask:\t{self.mask:016x}\n"

    def released(self, k: Kernel) -> None:
        del SIGNAL_FILES.of(k).opened[self]


def _pack(info: Siginfo) -> bytes:
    """The fields that are set depend on siginfo_layout(), as in siginfo.pack."""
    first, second, value = struct.unpack_from("<IIQ", siginfo.pack(info), 16)
    pid = uid = tid = overrun = status = pointer = addr = 0
    if info.si_addr is not None:
        addr = info.si_addr
    elif info.code == SI_TIMER:
        tid, overrun, pointer = first, second, value
    elif info.signo == SIGCHLD and info.code > 0:
        pid, uid, status = first, second, info.value
    else:
        pid, uid, pointer = first, second, value
    integer = i32(pointer)  # sival_int: the low half, signed
    head = (info.signo, 0, info.code, pid, uid, 0, tid, 0, overrun, 0, status, integer)
    return _INFO.pack(*head, pointer, 0, 0, addr).ljust(siginfo.SIZE, b"\0")


def sys_signalfd4(k: Kernel, t: Task, a: Args) -> int:
    """Create a signalfd, or change the mask of the given one."""
    fd, flags = a[0] & 0xFFFF_FFFF, a[3] & 0xFFFF_FFFF
    if a[2] != SIGSET_SIZE:
        raise Errno("EINVAL")
    mask = usermem.get_u64(k, t, a[1]) & ~NEVER_BLOCKED
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    if fd != 0xFFFF_FFFF:
        file = t.files.get(fd)
        if not isinstance(file, SignalFd):
            raise Errno("EINVAL")
        file.mask = mask
        file.notify(k)
        return fd
    new = SignalFd(anonymous(k), O_RDWR | flags & O_NONBLOCK, mask)
    fd = t.files.add(t, new, bool(flags & O_CLOEXEC))
    SIGNAL_FILES.of(k).opened[new] = None
    return fd


CALLS: Final = (Call("signalfd4", sys_signalfd4),)
