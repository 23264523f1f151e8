"""Clocks, timers and waiting for descriptors: which error comes first (kernel/time, fs/select.c,
fs/eventpoll.c)."""

from __future__ import annotations

import struct

import pytest
from stage import Stage, hold, table

SETTING = """
settimeofday bad null                   EFAULT
settimeofday i64:0,-1 bad               EINVAL  # the microseconds, before the zone is read
settimeofday i64:0,1000000 null         EINVAL
settimeofday i64:0,0 bad                EFAULT
settimeofday i64:-1,0 null              EINVAL
settimeofday i64:0x7fffffffffffffff,0 null      EINVAL
settimeofday i64:0,0 null               EPERM   # the capability comes last
settimeofday null null                  EPERM
clock_settime 1 bad                     EINVAL  # it can't be set, before the time is read
clock_settime 2 bad                     EINVAL
clock_settime 99 bad                    EINVAL
clock_settime 0 bad                     EFAULT
clock_settime 0 i64:-1,0                EINVAL
clock_settime 0 i64:0,1000000000        EINVAL
clock_settime 0 i64:0,0                 EPERM
clock_settime -2 i64:0,0                EPERM   # the CPU clock of a thread
adjtimex bad                            EFAULT
adjtimex reading                        5       # TIME_ERROR: nothing disciplines the clock
adjtimex offset                         EPERM
adjtimex tick                           EPERM   # before its range
adjtimex singleshot                     EPERM
adjtimex ss_read                        5
clock_adjtime 99 bad                    EFAULT
clock_adjtime 99 reading                EINVAL
clock_adjtime 1 reading                 EOPNOTSUPP
clock_adjtime 0 reading                 5
clock_adjtime 0 offset                  EPERM
clock_gettime 99 bad                    EINVAL
clock_gettime 0 bad                     EFAULT
clock_getres 99 bad                     EINVAL
clock_getres 0 bad                      EFAULT
clock_getres 0 null                     0
gettimeofday bad null                   EFAULT
gettimeofday room bad                   EFAULT
nanosleep bad null                      EFAULT
nanosleep i64:-1,0 null                 EINVAL
nanosleep i64:0,-1 null                 EINVAL
nanosleep i64:0,1000000000 null         EINVAL
clock_nanosleep 99 0 bad null           EINVAL
clock_nanosleep 3 0 bad null            EOPNOTSUPP      # CLOCK_THREAD_CPUTIME_ID, before the time
clock_nanosleep 4 0 bad null            EOPNOTSUPP      # CLOCK_MONOTONIC_RAW
clock_nanosleep 6 0 bad null            EOPNOTSUPP      # CLOCK_MONOTONIC_COARSE
clock_nanosleep 8 0 bad null            EFAULT
clock_nanosleep 8 0 i64:0,1 null        EPERM   # CLOCK_REALTIME_ALARM
clock_nanosleep 1 0 bad null            EFAULT
clock_nanosleep 1 0 i64:0,-1 null       EINVAL
clock_nanosleep 1 1 i64:-1,0 null       EINVAL
"""

TIMERS = """
getitimer 3 bad                         EINVAL
getitimer 0 bad                         EFAULT
setitimer 3 bad null                    EFAULT  # the setting, before which timer
setitimer 3 i64:0,0,0,1000000 null      EINVAL
setitimer 3 i64:0,0,0,0 null            EINVAL
setitimer 0 i64:0,-1,0,0 null           EINVAL
setitimer 0 i64:0,0,-1,0 null           EINVAL
setitimer 0 i64:0,0,0,0 bad             EFAULT
timer_create 99 bad bad                 EFAULT  # the event, before the clock
timer_create 99 null bad                EINVAL
timer_create 4 null bad                 EOPNOTSUPP
timer_create 0 event_bad_kind bad       EINVAL
timer_create 0 event_bad_signal bad     EINVAL
timer_create 0 event_bad_thread bad     EINVAL
timer_create 0 null bad                 EFAULT
timer_create 9 null room                EPERM
timer_settime 99 0 null null            EINVAL  # no setting at all is not EFAULT
timer_settime 99 0 bad null             EFAULT
timer_settime 99 0 i64:0,0,0,-1 null    EINVAL
timer_settime 99 0 i64:0,0,0,0 null     EINVAL
timer_settime 0 0 i64:0,0,0,0 bad       EFAULT
timer_gettime 99 bad                    EINVAL
timer_gettime 0 bad                     EFAULT
timer_getoverrun 99                     EINVAL
timer_delete 99                         EINVAL
"""

WAITING = """
ppoll bad 2000 bad bad 9                EFAULT  # the time, the mask, and then the descriptors
ppoll bad 2000 i64:-1,0 bad 9           EINVAL
ppoll bad 2000 null bad 9               EINVAL
ppoll bad 2000 null bad 8               EFAULT
ppoll bad 2000 null null 0              EINVAL
ppoll bad 1 null null 0                 EFAULT
pselect6 -1 bad null null bad bad       EFAULT
pselect6 -1 bad null null i64:0,-1 null EINVAL
pselect6 -1 bad null null bad null      EFAULT
pselect6 -1 bad null null null u64:8,9  EINVAL
pselect6 -1 bad null null null null     EINVAL
pselect6 5 bad null null null null      EFAULT
pselect6 600 bits_99 null null i64:0,0 null     ok
epoll_ctl closed 1 closed bad           EFAULT  # the event first
epoll_ctl closed 1 file u64:1,0         EBADF   # the epoll, before what is to be watched
epoll_ctl epoll 1 closed u64:1,0        EBADF
epoll_ctl pipe_r 1 file u64:1,0         EPERM   # what can't be polled, before what isn't an epoll
epoll_ctl epoll 1 dir u64:1,0           EPERM
epoll_ctl epoll 1 devnull u64:1,0       EPERM
epoll_ctl epoll 1 proc u64:1,0          EPERM
epoll_ctl pipe_w 1 pipe_r u64:1,0       EINVAL
epoll_ctl epoll 1 epoll u64:1,0         EINVAL
epoll_ctl epoll 9 pipe_r u64:1,0        EINVAL
epoll_ctl epoll 2 pipe_r bad            ENOENT
epoll_ctl epoll 3 pipe_r u64:1,0        ENOENT
epoll_ctl watching 1 pipe_r u64:1,0     EEXIST
epoll_ctl epoll 1 epoll_inside u64:1,0  ELOOP
epoll_pwait closed bad 0 0 bad 9        EINVAL  # the mask, before the descriptor
epoll_pwait closed bad 0 0 null 0       EBADF
epoll_pwait file wild 0 0 null 0        EINVAL
epoll_pwait file room -1 0 null 0       EINVAL
epoll_pwait file room 0x8000000 0 null 0        EINVAL
epoll_pwait file wild 1 0 null 0        EFAULT
epoll_pwait file room 1 0 null 0        EINVAL
epoll_pwait watching bad 1 0 null 0     EFAULT
epoll_pwait epoll bad 1 0 null 0        0
epoll_pwait2 closed room 1 bad null 0   EFAULT
epoll_pwait2 closed room 1 i64:-1,0 null 0      EINVAL
epoll_pwait2 closed room 1 null null 0  EBADF
"""


def timex(modes: int) -> bytes:
    return struct.pack("<I", modes).ljust(208, b"\0")


def made() -> Stage:
    stage = Stage()
    words, form = stage.words, struct.Struct("<Qiii40x")
    data = {"event_bad_kind": form.pack(0, 14, 9, 0), "event_bad_signal": form.pack(0, 65, 0, 0)}
    data |= {"event_bad_thread": form.pack(0, 14, 4, 99999)}
    data |= {"reading": timex(0), "offset": timex(1), "singleshot": timex(0x8001)}
    data |= {"ss_read": timex(0xA001), "tick": timex(0x4000), "bits_99": bytes(128)}
    words |= {name: stage.put(value) for name, value in data.items()}
    assert stage.call("timer_create", 0, 0, words["room"]) == 0
    watching = words["watching"] = stage.call("epoll_create1", 0)
    event = struct.pack("<I4xQ", 1, 0)
    assert stage.call("epoll_ctl", watching, 1, words["pipe_r"], event) == 0
    assert stage.write(words["pipe_w"], b"x") == 1
    inside = words["epoll_inside"] = stage.call("epoll_create1", 0)
    assert stage.call("epoll_ctl", inside, 1, words["epoll"], event) == 0
    return stage


@pytest.fixture
def stage() -> Stage:
    return made()


@table(SETTING + TIMERS + WAITING)
def test_which_error_comes_first(line: str) -> None:
    hold(made, line)


def test_the_clock_is_not_disciplined(stage: Stage) -> None:
    """As after boot without NTP: errors at their limit, unsynchronized, 10,000 us a tick."""
    room = stage.put(timex(0))
    assert stage.call("adjtimex", room) == 5
    data = stage.get(room, 208)
    assert struct.unpack_from("<qqqqi", data, 8) == (0, 0, 16_000_000, 16_000_000, 0x40)
    seconds, tick = struct.unpack_from("<q8xq", data, 72)
    assert (seconds, tick) == (1_712_187_654, 10_000)


def test_events_that_can_not_be_stored_are_not_lost(stage: Stage) -> None:
    once = struct.pack("<I4xQ", 1 << 30 | 1, 7)
    watching, room = stage.words["watching"], stage.words["room"]
    assert stage.call("epoll_ctl", watching, 3, stage.words["pipe_r"], once) == 0
    assert stage.call("epoll_pwait", watching, 8, 1, 0, 0, 0) == "EFAULT"
    assert stage.call("epoll_pwait", watching, room, 1, 0, 0, 0) == 1
    assert struct.unpack("<I4xQ", stage.get(room, 16)) == (1, 7)
    assert stage.call("epoll_pwait", watching, room, 1, 0, 0, 0) == 0
