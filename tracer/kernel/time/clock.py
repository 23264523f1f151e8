"""Virtual time: the clocks, and the calls that sleep.

One instruction takes one nanosecond, and a system call `Kernel.call_ns` more, so that a program
that polls for a second ends in time. While no task is runnable, time jumps to the next deadline.
The time of boot is fixed, so every run has the same dates.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    CLOCK_BOOTTIME,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_REALTIME,
    CLOCK_REALTIME_ALARM,
    CLOCK_REALTIME_COARSE,
    CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID,
    TIMER_ABSTIME,
)
from shstk.tracer.kernel.call import (
    RESTART_BLOCK,
    RESTART_NO_HAND,
    Args,
    Call,
    Interruption,
    Outcome,
    Wait,
    i32,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import CpuTime, Task

SECOND: Final = 10**9
# 2024-04-03 23:40:54 UTC, the day of the seed patch.
EPOCH_NS: Final = 1_712_187_654 * SECOND
USER_HZ: Final = 100  # clock ticks of times(2), /proc/PID/stat


def realtime_ns(k: Kernel) -> int:
    """ns since 1970."""
    return EPOCH_NS + k.now_ns()


def spend(k: Kernel, t: Task, ns: int) -> None:
    """The kernel works for a task, which takes time."""
    k.machine.spend(ns)
    t.system_ns += ns


def _monotonic(k: Kernel, t: Task) -> int:
    return k.now_ns()


CLOCKS: Final[dict[int, Callable[[Kernel, Task], int]]] = {
    CLOCK_REALTIME: lambda k, t: realtime_ns(k),
    CLOCK_MONOTONIC: _monotonic,
    CLOCK_PROCESS_CPUTIME_ID: lambda k, t: t.process.cpu.total,
    CLOCK_THREAD_CPUTIME_ID: lambda k, t: t.cpu.total,
    CLOCK_MONOTONIC_RAW: _monotonic,
    CLOCK_REALTIME_COARSE: lambda k, t: realtime_ns(k),
    CLOCK_MONOTONIC_COARSE: _monotonic,
    CLOCK_BOOTTIME: _monotonic,
    CLOCK_REALTIME_ALARM: lambda k, t: realtime_ns(k),
    CLOCK_BOOTTIME_ALARM: _monotonic,
    CLOCK_TAI: lambda k, t: realtime_ns(k),  # no leap seconds are set at boot
}
CPU_CLOCKS: Final = (CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID)
TIMERLESS: Final = (CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE)
ALARMS: Final = (CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM)


def clock_ns(k: Kernel, t: Task, clock: int) -> int:
    """The time of a clock, ns. A negative id is the CPU clock of a process or thread
    (clock_getcpuclockid: ~pid << 3 | per-thread 4 | 0..2). Errno: EINVAL."""
    clock -= (clock & 0x8000_0000) << 1
    if clock in CLOCKS:
        return CLOCKS[clock](k, t)
    if clock >= 0 or clock & 3 == 3:
        raise Errno("EINVAL")
    number = ~(clock >> 3)
    if clock & 4:
        task = k.tasks.get(number) if number else t
        if task is None or task.process is not t.process:
            raise Errno("EINVAL")
        return task.cpu.total
    leader = k.find(number) if number else t.process.leader
    if leader is None or leader is not leader.process.leader:
        raise Errno("EINVAL")
    return leader.process.cpu.total


def pack_timespec(ns: int) -> bytes:
    return struct.pack("<qq", *divmod(ns, SECOND))


def pack_timeval(ns: int) -> bytes:
    return struct.pack("<qq", ns // SECOND, ns % SECOND // 1000)


def pack_rusage(cpu: CpuTime) -> bytes:
    """struct rusage with the times; all else is zero."""
    return (pack_timeval(cpu.user) + pack_timeval(cpu.system)).ljust(144, b"\0")


def get_timespec(k: Kernel, t: Task, addr: int) -> int:
    """Read a struct timespec, ns. Errno: EFAULT, EINVAL."""
    sec, nsec = struct.unpack("<qq", usermem.get(k, t, addr, 16))
    if sec < 0 or not 0 <= nsec < SECOND:
        raise Errno("EINVAL")
    return int(sec * SECOND + nsec)


def timeout_at(k: Kernel, t: Task, addr: int) -> int | None:
    """The time (now_ns) at which a relative struct timespec expires; None for a null pointer.
    The first try of a call computes it."""
    assert t.blocked is not None
    if t.blocked.woken is None:
        t.blocked.expires = k.now_ns() + get_timespec(k, t, addr) if addr else None
    return t.blocked.expires


def sys_clock_gettime(k: Kernel, t: Task, a: Args) -> int:
    usermem.put(k, t, a[1], pack_timespec(clock_ns(k, t, a[0] & 0xFFFF_FFFF)))
    return 0


def sys_clock_getres(k: Kernel, t: Task, a: Args) -> int:
    clock_ns(k, t, a[0] & 0xFFFF_FFFF)
    if a[1]:
        usermem.put(k, t, a[1], pack_timespec(1))
    return 0


def sys_gettimeofday(k: Kernel, t: Task, a: Args) -> int:
    if a[0]:
        usermem.put(k, t, a[0], pack_timeval(realtime_ns(k)))
    if a[1]:
        usermem.put(k, t, a[1], bytes(8))
    return 0


def _sleep(k: Kernel, t: Task, deadline: int) -> int | Wait | None:
    """None: a signal has ended the sleep."""
    assert t.blocked is not None
    if k.now_ns() >= deadline:
        return 0
    return None if t.blocked.woken == "signal" else Wait("sleep", None, deadline)


def sys_nanosleep(k: Kernel, t: Task, a: Args) -> Outcome:
    """After a signal, a[1] gets the remaining time."""
    deadline = timeout_at(k, t, a[0])
    if deadline is None:
        raise Errno("EFAULT")
    if (outcome := _sleep(k, t, deadline)) is not None:
        return outcome
    if a[1]:
        usermem.put(k, t, a[1], pack_timespec(deadline - k.now_ns()))
    t.interruption = Interruption(sys_nanosleep, a, deadline)
    return RESTART_BLOCK


def sys_clock_nanosleep(k: Kernel, t: Task, a: Args) -> Outcome:
    clock, absolute = a[0] & 0xFFFF_FFFF, a[1] & TIMER_ABSTIME
    if clock not in CLOCKS:
        raise Errno("EINVAL")
    if clock in (*CPU_CLOCKS, *TIMERLESS):
        raise Errno("EOPNOTSUPP")
    if clock in ALARMS:
        get_timespec(k, t, a[2])
        raise Errno("EPERM")  # CAP_WAKE_ALARM
    if not absolute:
        return sys_nanosleep(k, t, (a[2], a[3], 0, 0, 0, 0))
    offset = CLOCKS[clock](k, t) - k.now_ns()
    outcome = _sleep(k, t, get_timespec(k, t, a[2]) - offset)
    return RESTART_NO_HAND if outcome is None else outcome


def sys_times(k: Kernel, t: Task, a: Args) -> int:
    tick = SECOND // USER_HZ
    if a[0]:
        own, children = t.process.cpu, t.process.children_cpu
        spent = (own.user, own.system, children.user, children.system)
        usermem.put(k, t, a[0], struct.pack("<4q", *(ns // tick for ns in spent)))
    return k.now_ns() // tick


def sys_getrusage(k: Kernel, t: Task, a: Args) -> int:
    used = {0: t.process.cpu, -1: t.process.children_cpu, 1: t.cpu}
    who = i32(a[0])
    if who not in used:
        raise Errno("EINVAL")
    usermem.put(k, t, a[1], pack_rusage(used[who]))
    return 0


CALLS: Final = (
    Call("nanosleep", sys_nanosleep),
    Call("clock_gettime", sys_clock_gettime, why="virtual time"),
    Call("clock_getres", sys_clock_getres, why="1 ns for every clock"),
    Call("clock_nanosleep", sys_clock_nanosleep, why="no CLOCK_PROCESS_CPUTIME_ID"),
    Call("times", sys_times),
    Call("getrusage", sys_getrusage, "simple", "the times only"),
    Call("gettimeofday", sys_gettimeofday, why="virtual time; the time zone is UTC"),
)
