"""Virtual time: the clocks, and sleeping by them.

One instruction is one nanosecond; while nobody can run, time jumps to the next deadline. The boot
was at a fixed moment, so every run has the same calendar.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tracer.kernel import usermem
from tracer.kernel.call import RESTART_NO_HAND, Args, Call, Outcome, Wait
from tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from tracer.kernel.kernel import Kernel
    from tracer.kernel.task import Process, Task

SECOND: Final = 10**9
# 2024-04-03 23:40:54 UTC, the day of the seed patch.
EPOCH_NS: Final = 1_712_187_654 * SECOND
USER_HZ: Final = 100  # clock ticks of times(2), /proc/PID/stat
TIMER_ABSTIME: Final = 1


def realtime_ns(k: Kernel) -> int:
    """ns since 1970."""
    return EPOCH_NS + k.now_ns()


def process_cpu_ns(process: Process) -> int:
    """CPU time of all its threads, those that have ended too."""
    return process.utime_icount + sum(task.icount for task in process.tasks)


def _monotonic(k: Kernel, t: Task) -> int:
    return k.now_ns()


CLOCKS: Final[dict[int, Callable[[Kernel, Task], int]]] = {
    0: lambda k, t: realtime_ns(k),  # CLOCK_REALTIME
    1: _monotonic,
    2: lambda k, t: process_cpu_ns(t.process),  # CLOCK_PROCESS_CPUTIME_ID
    3: lambda k, t: t.icount,  # CLOCK_THREAD_CPUTIME_ID
    4: _monotonic,  # CLOCK_MONOTONIC_RAW
    5: lambda k, t: realtime_ns(k),  # CLOCK_REALTIME_COARSE
    6: _monotonic,  # CLOCK_MONOTONIC_COARSE
    7: _monotonic,  # CLOCK_BOOTTIME
    8: lambda k, t: realtime_ns(k),  # CLOCK_REALTIME_ALARM
    9: _monotonic,  # CLOCK_BOOTTIME_ALARM
    11: lambda k, t: realtime_ns(k),  # CLOCK_TAI: no leap seconds are set at boot
}
REALTIME_CLOCKS: Final = (0, 5, 8, 11)
CPU_CLOCKS: Final = (2, 3)
