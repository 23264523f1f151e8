"""Timers: they expire at a time of a clock, and send a signal or make a descriptor readable.

`Timers` knows when the next is due; the kernel's loop runs no task beyond that moment and calls
`fire`. A periodic timer that has expired is idle until its signal is dequeued or its
descriptor is read (hrtimer_forward() in posixtimer_rearm()): a period of 1 ns costs one expiry for
each signal that the guest takes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    SI_KERNEL,
    SI_TIMER,
    SIGNALS,
    TIMER_ABSTIME,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.sched import KTIME_MAX
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import NSIG
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.task import Process, Siginfo, Task
from shstk.tracer.kernel.time.clock import (
    ALARMS,
    CPU_CLOCKS,
    SECOND,
    TIMERLESS,
    clock_ns,
    get_timespec,
    pack_timespec,
    pack_timeval,
)

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_SIGEVENT: Final = struct.Struct("<Qiii40x")  # struct sigevent: value, signo, notify, tid
_OVERRUN_MAX: Final = 2**31 - 1  # timer_overrun_to_int()
_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD, _SIGEV_THREAD_ID = 0, 1, 2, 4


class Timer:
    """owner: the task whose CPU time the CPU clocks show."""

    def __init__(self, clock: int, owner: Task) -> None:
        self.clock = clock
        self.owner = owner
        self.expires: int | None = None  # by the clock, ns; None: disarmed
        self.interval = 0
        self.idle = False  # it has expired, and waits for `rearm`

    def now(self, k: Kernel) -> int:
        return clock_ns(k, self.owner, self.clock)

    def left(self, k: Kernel) -> int:
        """ns until it expires, at least 1; 0 if disarmed."""
        if self.expires is None:
            return 0
        left = self.expires - self.now(k)
        return left % self.interval or self.interval if self.idle else max(1, left)

    def due(self, k: Kernel) -> int:
        """The earliest time (Kernel.now_ns) at which it can expire."""
        assert self.expires is not None
        return k.now_ns() + max(0, self.expires - self.now(k))

    def set(self, k: Kernel, value: int, interval: int, absolute: bool = False) -> None:
        """value: ns, 0 disarms."""
        if self.expires is not None and not self.idle:
            TIMERS.of(k).armed.remove(self)
        self.interval, self.expires, self.idle = interval, None, False
        if value:
            self.expires = min(value if absolute else self.now(k) + value, KTIME_MAX)
            TIMERS.of(k).armed.append(self)

    def expire(self, k: Kernel) -> None:
        """It is due: stop, and ring. A periodic timer keeps the moment for `rearm`."""
        TIMERS.of(k).armed.remove(self)
        self.idle = bool(self.interval)
        if not self.idle:
            self.expires = None
        self.ring(k)

    def rearm(self, k: Kernel) -> int:
        """hrtimer_forward(): arm an expired periodic timer for its next moment.

        Returns how many moments have passed since it expired.
        """
        if not self.idle:
            return 0
        assert self.expires is not None
        periods = (self.now(k) - self.expires) // self.interval + 1
        self.expires += periods * self.interval
        self.idle = False
        TIMERS.of(k).armed.append(self)
        return periods - 1

    @property
    def orphaned(self) -> bool:
        """Its process has exited."""
        return self.owner.process.exit_status is not None

    def ring(self, k: Kernel) -> None:
        raise NotImplementedError

    def get(self, k: Kernel, pack: Callable[[int], bytes]) -> bytes:
        """{interval, time left}: struct itimerspec or itimerval."""
        return pack(self.interval) + pack(self.left(k))


class IntervalTimer(Timer):
    """One of setitimer's three."""

    def __init__(self, clock: int, owner: Task, signo: int) -> None:
        super().__init__(clock, owner)
        self.signo = signo

    def ring(self, k: Kernel) -> None:
        signals.queue(k, self.owner.process, Siginfo(self.signo, SI_KERNEL, timer=self))
        if self.clock in CPU_CLOCKS:  # check_cpu_itimer() goes on at once
            self.rearm(k)

    def taken(self, k: Kernel, info: Siginfo) -> None:
        """dequeue_signal() restarts ITIMER_REAL."""
        self.rearm(k)


class VirtualTimer(IntervalTimer):
    """ITIMER_VIRTUAL: its clock stands still in system calls."""

    def now(self, k: Kernel) -> int:
        return self.owner.process.cpu.user


class PosixTimer(Timer):
    """timer_create's; signo 0: SIGEV_NONE."""

    def __init__(
        self, clock: int, owner: Task, number: int, target: Task | Process, signo: int, value: int
    ) -> None:
        super().__init__(clock, owner)
        self.number, self.target, self.signo, self.value = number, target, signo, value
        self.overrun = 0  # of the signal that was delivered last

    def set(self, k: Kernel, value: int, interval: int, absolute: bool = False) -> None:
        """A signal of the old setting that is still queued is not delivered."""
        super().set(k, value, interval, absolute)
        self.overrun = 0
        signals.forget(self.target, self)

    def ring(self, k: Kernel) -> None:
        if self.signo:
            info = Siginfo(self.signo, SI_TIMER, fields=self._fields(), timer=self)
            signals.queue(k, self.target, info)

    def taken(self, k: Kernel, info: Siginfo) -> None:
        """posixtimer_deliver_signal(): only now is it known how many moments were missed."""
        self.overrun = min(self.rearm(k), _OVERRUN_MAX)
        info.fields = self._fields()

    def _fields(self) -> bytes:
        return struct.pack("<iiQ", self.number, self.overrun, self.value)


class Timers:
    """All timers of a run. Those of a process that has exited are disarmed when they are due."""

    def __init__(self) -> None:
        self.armed: list[Timer] = []
        self.interval: dict[tuple[int, int], IntervalTimer] = {}  # (pid, which)
        self.posix: dict[tuple[int, int], PosixTimer] = {}  # (pid, timer id)

    def deadline(self, k: Kernel, idle: bool = False) -> int | None:
        """The earliest time (now_ns) at which a timer can expire, None if none can.
        idle: no task is running, so the CPU clocks don't advance."""
        timers = (t for t in self.armed if not (idle and t.clock in CPU_CLOCKS))
        return min((due for t in timers if (due := t.due(k)) < KTIME_MAX), default=None)

    def fire(self, k: Kernel) -> None:
        """Expire all timers that are due, the earliest first."""
        for timer in sorted(self.armed, key=lambda t: t.due(k)):
            if timer.expires is None or timer.now(k) < timer.expires:
                continue
            if timer.orphaned:
                timer.set(k, 0, 0)
            else:
                timer.expire(k)

    def forget(self, k: Kernel, process: Process) -> None:
        """exec: delete the POSIX timers, keep the interval timers."""
        for key in [key for key in self.posix if key[0] == process.pid]:
            self.posix.pop(key).set(k, 0, 0)

    def unignored(self, k: Kernel, process: Process, signo: int) -> None:
        """posixtimer_sig_unignore(): timers whose signal was ignored when they expired go on."""
        timers: list[PosixTimer | IntervalTimer]
        timers = [*self.posix.values(), *self.interval.values()]
        for timer in timers:
            mine = timer.owner.process is process and timer.signo == signo
            if mine and timer.idle and not signals.is_queued(process, timer):
                timer.rearm(k)


TIMERS: Final = Slot(Timers)

# ITIMER_REAL, VIRTUAL, PROF -> kind, clock, signal
_ITIMERS: Final[dict[int, tuple[type[IntervalTimer], int, int]]] = {
    0: (IntervalTimer, CLOCK_MONOTONIC, SIGNALS["SIGALRM"]),
    1: (VirtualTimer, CLOCK_PROCESS_CPUTIME_ID, SIGNALS["SIGVTALRM"]),
    2: (IntervalTimer, CLOCK_PROCESS_CPUTIME_ID, SIGNALS["SIGPROF"]),
}


def _interval_timer(k: Kernel, t: Task, which: int) -> IntervalTimer:
    which &= 0xFFFF_FFFF
    if which not in _ITIMERS:
        raise Errno("EINVAL")
    kind, clock, signo = _ITIMERS[which]
    made = kind(clock, t.process.leader, signo)
    return TIMERS.of(k).interval.setdefault((t.pid, which), made)


def _microseconds(sec: int, usec: int) -> int:
    if sec < 0 or not 0 <= usec < 10**6:
        raise Errno("EINVAL")
    return sec * SECOND + usec * 1000


def sys_getitimer(k: Kernel, t: Task, a: Args) -> int:
    usermem.put(k, t, a[1], _interval_timer(k, t, a[0]).get(k, pack_timeval))
    return 0


def sys_setitimer(k: Kernel, t: Task, a: Args) -> int:
    """The new setting is checked before which timer it is for."""
    new = struct.unpack("<4q", usermem.get(k, t, a[1], 32)) if a[1] else (0, 0, 0, 0)
    interval, value = _microseconds(*new[:2]), _microseconds(*new[2:])
    timer = _interval_timer(k, t, a[0])
    old = timer.get(k, pack_timeval)
    timer.set(k, value, interval)
    if a[2]:
        usermem.put(k, t, a[2], old)
    return 0


def sys_timer_create(k: Kernel, t: Task, a: Args) -> int:
    """struct sigevent: value, signo, notify, tid. Without one: SIGALRM with the id as value."""
    event = usermem.get(k, t, a[1], _SIGEVENT.size) if a[1] else None
    clock = a[0] & 0xFFFF_FFFF
    clock_ns(k, t, clock)
    if clock in TIMERLESS:
        raise Errno("EOPNOTSUPP")
    number = 0
    while (t.pid, number) in TIMERS.of(k).posix:
        number += 1
    value, signo, notify, tid = number, 14, _SIGEV_SIGNAL, 0
    if event is not None:
        value, signo, notify, tid = _SIGEVENT.unpack(event)
    target: Task | Process = t.process
    if notify == _SIGEV_THREAD_ID:
        thread = k.tasks.get(tid)
        if thread is None or thread.process is not t.process:
            raise Errno("EINVAL")
        target = thread
    elif notify not in (_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD):
        raise Errno("EINVAL")
    if notify == _SIGEV_NONE:
        signo = 0
    elif not 0 < signo <= NSIG:
        raise Errno("EINVAL")
    usermem.put_u32(k, t, a[2], number)
    if clock in ALARMS:
        raise Errno("EPERM")  # CAP_WAKE_ALARM
    TIMERS.of(k).posix[t.pid, number] = PosixTimer(clock, t, number, target, signo, value)
    return 0


def _posix_timer(k: Kernel, t: Task, number: int) -> PosixTimer:
    timer = TIMERS.of(k).posix.get((t.pid, number & 0xFFFF_FFFF))
    if timer is None:
        raise Errno("EINVAL")
    return timer


def get_itimerspec(k: Kernel, t: Task, addr: int) -> tuple[int, int]:
    """(value, interval), ns. Errno: EFAULT, EINVAL."""
    usermem.get(k, t, addr, 32)
    return get_timespec(k, t, addr + 16), get_timespec(k, t, addr)


def sys_timer_settime(k: Kernel, t: Task, a: Args) -> int:
    """The new setting is read before the timer is looked for."""
    if not a[2]:
        raise Errno("EINVAL")
    value, interval = get_itimerspec(k, t, a[2])
    timer = _posix_timer(k, t, a[0])
    old = timer.get(k, pack_timespec)
    timer.set(k, value, interval, bool(a[1] & TIMER_ABSTIME))
    if a[3]:
        usermem.put(k, t, a[3], old)
    return 0


def sys_timer_gettime(k: Kernel, t: Task, a: Args) -> int:
    usermem.put(k, t, a[1], _posix_timer(k, t, a[0]).get(k, pack_timespec))
    return 0


def sys_timer_getoverrun(k: Kernel, t: Task, a: Args) -> int:
    return _posix_timer(k, t, a[0]).overrun


def sys_timer_delete(k: Kernel, t: Task, a: Args) -> int:
    timer = _posix_timer(k, t, a[0])
    timer.set(k, 0, 0)
    del TIMERS.of(k).posix[t.pid, timer.number]
    return 0


CALLS: Final = (
    Call("getitimer", sys_getitimer),
    Call("setitimer", sys_setitimer),
    Call("timer_create", sys_timer_create),
    Call("timer_gettime", sys_timer_gettime),
    Call("timer_getoverrun", sys_timer_getoverrun),
    Call("timer_settime", sys_timer_settime),
    Call("timer_delete", sys_timer_delete),
)
