"""Calls that set the clock. An ordinary user may only read how it is disciplined; what is wrong
with the arguments is told before that (kernel/time)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import CLOCK_REALTIME
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.time.clock import SECOND, clock_ns, get_timespec, realtime_ns

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_SECONDS_MAX: Final = (2**63 - 1) // SECOND - 30 * 365 * 24 * 3600  # TIME_SETTOD_SEC_MAX
_TIMEX: Final = 208  # bytes of struct timex
_TIMEX_HEAD: Final = struct.Struct("<I4x4qi4x3q3q")  # modes … tolerance, time, tick
_ADJTIME, _SINGLESHOT, _READ_ONLY = 0x8000, 0x8001, 0x2000  # ADJ_ADJTIME, ADJ_OFFSET_*
_UNSYNCHRONIZED, _TIME_ERROR = 0x40, 5  # STA_UNSYNC, and what the call then returns
_ERROR_US: Final = 16_000_000  # NTP_PHASE_LIMIT


def _check_settable(ns: int) -> None:
    """timespec64_valid_settod()."""
    if ns // SECOND >= _SECONDS_MAX:
        raise Errno("EINVAL")


def sys_settimeofday(k: Kernel, t: Task, a: Args) -> int:
    if a[0]:
        seconds, micros = struct.unpack("<qq", usermem.get(k, t, a[0], 16))
        if not 0 <= micros < 10**6:
            raise Errno("EINVAL")
        if a[1]:
            usermem.get(k, t, a[1], 8)
        if seconds < 0:
            raise Errno("EINVAL")
        _check_settable(seconds * SECOND)
    elif a[1]:
        usermem.get(k, t, a[1], 8)
    raise Errno("EPERM")


def sys_clock_settime(k: Kernel, t: Task, a: Args) -> int:
    """Only CLOCK_REALTIME has a clock_set, and the CPU clocks of processes, which refuse it."""
    clock = a[0] & 0xFFFF_FFFF
    if clock != CLOCK_REALTIME and not clock >> 31:
        raise Errno("EINVAL")
    ns = get_timespec(k, t, a[1])
    if clock != CLOCK_REALTIME:
        clock_ns(k, t, clock)
    _check_settable(ns)
    raise Errno("EPERM")


def _adjust(k: Kernel, t: Task, addr: int) -> int:
    """timekeeping_validate_timex(): without a capability, nothing but reading."""
    data = usermem.get(k, t, addr, _TIMEX)
    (modes,) = struct.unpack_from("<I", data)
    reads = not modes or (modes & _ADJTIME and modes & _READ_ONLY)
    if not reads or modes & 0x100:  # ADJ_SETOFFSET
        raise Errno("EPERM")
    fields = (modes, 0, 0, _ERROR_US, _ERROR_US, _UNSYNCHRONIZED, 2, 1, 500 << 16)
    seconds, ns = divmod(realtime_ns(k), SECOND)
    head = _TIMEX_HEAD.pack(*fields, seconds, ns // 1000, 10_000)
    usermem.put(k, t, addr, head.ljust(_TIMEX, b"\0"))
    return _TIME_ERROR


def sys_adjtimex(k: Kernel, t: Task, a: Args) -> int:
    return _adjust(k, t, a[0])


def sys_clock_adjtime(k: Kernel, t: Task, a: Args) -> int:
    usermem.get(k, t, a[1], _TIMEX)
    clock = a[0] & 0xFFFF_FFFF
    clock_ns(k, t, clock)
    if clock != CLOCK_REALTIME:
        raise Errno("EOPNOTSUPP")
    return _adjust(k, t, a[1])


_FIXED: Final = "the clock can't be set"

CALLS: Final = (
    Call("clock_settime", sys_clock_settime, "refused", _FIXED),
    Call("settimeofday", sys_settimeofday, "refused", _FIXED),
    Call("adjtimex", sys_adjtimex, "simple", "the clock can be read, not set"),
    Call("clock_adjtime", sys_clock_adjtime, "simple", "the clock can be read, not set"),
)
