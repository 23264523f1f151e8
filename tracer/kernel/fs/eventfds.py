"""Anonymous descriptors: eventfd and timerfd."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    CLOCK_BOOTTIME,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    CLOCK_REALTIME_ALARM,
    EFD_SEMAPHORE,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDWR,
    TFD_TIMER_CANCEL_ON_SET,
    TIMER_ABSTIME,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import READABLE, WRITABLE, OpenFile
from shstk.tracer.kernel.fs.inode import DEV_ANON, Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.time.clock import SECOND, pack_timespec
from shstk.tracer.kernel.time.timers import Timer, get_itimerspec

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_TICKING: Final = (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME)  # those of a timerfd
_ALARMS: Final = (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)
_COUNT_MAX: Final = 2**64 - 2


def anonymous(k: Kernel) -> Inode:
    """An inode that has no name and is reached through a descriptor only."""
    return Inode(k.sandbox.new_ino(), stat.S_IRUSR | stat.S_IWUSR, dev=DEV_ANON)


class Anonymous(OpenFile):
    """A file that has no bytes: seeking has no effect (noop_llseek), and nothing is spliced."""

    splices_out = splices_in = False
    reads_nothing = True

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        return 0


class EventFd(Anonymous):
    def __init__(self, inode: Inode, flags: int, count: int, semaphore: bool) -> None:
        super().__init__(inode, flags, "anon_inode:[eventfd]")
        self.count = count
        self.semaphore = semaphore

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        if n < 8:
            raise Errno("EINVAL")
        if not self.count:
            return None
        return (1 if self.semaphore else self.count).to_bytes(8, "little")

    def advance(self, k: Kernel, n: int) -> None:
        self.count -= 1 if self.semaphore else self.count
        self.notify(k, WRITABLE)

    def admit(self, k: Kernel, t: Task, n: int) -> None:
        if n < 8:
            raise Errno("EINVAL")

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        self.admit(k, t, len(data))
        value = int.from_bytes(data[:8], "little")
        if value > _COUNT_MAX:
            raise Errno("EINVAL")
        if self.count + value > _COUNT_MAX:
            return None
        self.count += value
        self.notify(k, READABLE)
        return 8

    def ready(self, k: Kernel) -> int:
        return (READABLE if self.count else 0) | (WRITABLE if self.count < _COUNT_MAX else 0)

    def details(self, k: Kernel) -> str:
        known = f"eventfd-count: {self.count:16x}\neventfd-id: {self.inode.ino}\n"
        return f"{known}eventfd-semaphore: {self.semaphore:d}\n"


class TimerFd(Anonymous):
    def __init__(self, inode: Inode, flags: int, clock: int, owner: Task) -> None:
        super().__init__(inode, flags, "anon_inode:[timerfd]")
        self.ticks = 0
        self.how = 0  # timerfd_settime's flags
        self.timer = _Ticker(clock, owner, self)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        if n < 8:
            raise Errno("EINVAL")
        self.ticks += self.timer.rearm(k)
        return self.ticks.to_bytes(8, "little") if self.ticks else None

    def advance(self, k: Kernel, n: int) -> None:
        self.ticks = 0

    def ready(self, k: Kernel) -> int:
        return READABLE if self.ticks else 0

    def released(self, k: Kernel) -> None:
        self.timer.set(k, 0, 0)

    def details(self, k: Kernel) -> str:
        value, interval = (divmod(ns, SECOND) for ns in (self.timer.left(k), self.timer.interval))
        return (
            f"clockid: {self.timer.clock}\nticks: {self.ticks}\nsettime flags: 0{self.how:o}\n"
            f"it_value: ({value[0]}, {value[1]})\nit_interval: ({interval[0]}, {interval[1]})\n"
        )


class _Ticker(Timer):
    """The timer of a timerfd; it outlives the task that created it."""

    def __init__(self, clock: int, owner: Task, file: TimerFd) -> None:
        super().__init__(clock, owner)
        self.file = file

    @property
    def orphaned(self) -> bool:
        return False

    def ring(self, k: Kernel) -> None:
        self.file.ticks += 1
        self.file.notify(k, READABLE)


def sys_eventfd2(k: Kernel, t: Task, a: Args) -> int:
    flags = a[1] & 0xFFFF_FFFF
    if flags & ~(EFD_SEMAPHORE | O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    status = O_RDWR | flags & O_NONBLOCK
    file = EventFd(anonymous(k), status, a[0] & 0xFFFF_FFFF, bool(flags & EFD_SEMAPHORE))
    return t.files.add(t, file, bool(flags & O_CLOEXEC))


def sys_timerfd_create(k: Kernel, t: Task, a: Args) -> int:
    clock, flags = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
    if flags & ~(O_NONBLOCK | O_CLOEXEC) or clock not in (*_TICKING, *_ALARMS):
        raise Errno("EINVAL")
    if clock in _ALARMS:
        raise Errno("EPERM")  # CAP_WAKE_ALARM
    file = TimerFd(anonymous(k), O_RDWR | flags & O_NONBLOCK, clock, t)
    return t.files.add(t, file, bool(flags & O_CLOEXEC))


def _timer_of(t: Task, fd: int) -> TimerFd:
    file = t.files.get(fd)
    if not isinstance(file, TimerFd):
        raise Errno("EINVAL")
    return file


def sys_timerfd_settime(k: Kernel, t: Task, a: Args) -> int:
    """The time and the flags are checked before the descriptor."""
    value, interval = get_itimerspec(k, t, a[2])
    if a[1] & 0xFFFF_FFFF & ~(TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET):
        raise Errno("EINVAL")
    file = _timer_of(t, a[0])
    old = file.timer.get(k, pack_timespec)
    file.ticks, file.how = 0, a[1] & 0xFFFF_FFFF
    file.timer.set(k, value, interval, bool(a[1] & TIMER_ABSTIME))
    if a[3]:
        usermem.put(k, t, a[3], old)
    return 0


def sys_timerfd_gettime(k: Kernel, t: Task, a: Args) -> int:
    usermem.put(k, t, a[1], _timer_of(t, a[0]).timer.get(k, pack_timespec))
    return 0


CALLS: Final = (
    Call("eventfd2", sys_eventfd2),
    Call("timerfd_create", sys_timerfd_create),
    Call(
        "timerfd_settime",
        sys_timerfd_settime,
        why="the clock is never set: TFD_TIMER_CANCEL_ON_SET has no effect",
    ),
    Call("timerfd_gettime", sys_timerfd_gettime),
)
