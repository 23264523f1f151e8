"""What becomes of a call that a signal interrupts (signal(7)): restarted, resumed, or EINTR."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run

from shstk.schemas.uapi import SOL_SOCKET
from shstk.tracer.kernel.call import RESTART, RESTART_NO_HAND

SECOND = 10**9
SO_RCVTIMEO, SO_SNDTIMEO = 20, 21

# The child makes a call with a timeout of 5 s. Its parent stops it after 2 s and continues it after
# 3 s. Both report the time in seconds.
STOPPED = """
    sys 220, 17, 0, 0, 0, 0
    bnez a0, parent
    {call}
    mv s3, a0
    report s3
    j time
parent:
    mv s5, a0
    sys 101, two, 0
    mv a0, s5
    li a1, 19
    sys 129
    sys 101, one, 0
    mv a0, s5
    li a1, 18
    sys 129
    sys 260, -1, 0, 0, 0
time:
    sys 113, 1, now
    li s0, now
    ld s1, 0(s0)
    report s1
    exit 0
    .align 8
five: .dword 5, 0
two: .dword 2, 0
one: .dword 1, 0
now: .dword 0, 0
word: .dword 0
"""


@pytest.mark.parametrize(
    ("call", "answer", "took"),
    [
        ("sys 101, five, 0", 0, 5),  # nanosleep
        ("sys 115, 1, 0, five, 0", 0, 5),  # clock_nanosleep
        ("sys 98, word, 0, 0, five", 2**64 - 110, 5),  # futex: ETIMEDOUT
        ("sys 73, 0, 0, five, 0, 8", 0, 6),  # ppoll goes on with what was left at the stop
        ("sys 72, 0, 0, 0, 0, five, 0", 0, 6),  # pselect6
    ],
)
def test_a_stop_does_not_begin_a_timeout_anew(call: str, answer: int, took: int) -> None:
    assert run(STOPPED.format(call=call)).words == [answer, took, took]


def test_a_sleep_is_resumed_by_restart_syscall() -> None:
    result = run(STOPPED.format(call="sys 101, five, 0"))
    child = [c for c in result.rows("syscalls") if c["tid"] != result.pid]
    names = [(c["name"], c["outcome"]) for c in child[:2]]
    assert names == [("nanosleep", "restarted"), ("restart_syscall", "returned")]


def test_nothing_to_resume() -> None:
    assert Direct().call("restart_syscall") == "EINTR"


@pytest.fixture
def d() -> Direct:
    return Direct()


def pair(d: Direct) -> tuple[int, int]:
    fds = d.room(8)
    assert d.call("socketpair", 1, 1, 0, fds) == 0
    one, other = struct.unpack("<2i", d.get(fds, 8))
    return one, other


@pytest.mark.parametrize("call", ["read", "recvfrom"])
def test_a_socket_with_a_timeout_is_not_restarted(d: Direct, call: str) -> None:
    """sock_intr_errno()."""
    one, _ = pair(d)
    d.start(call, one, bytes(8), 1, 0)
    assert d.retry("signal") is RESTART
    assert d.call("setsockopt", one, SOL_SOCKET, SO_RCVTIMEO, struct.pack("<qq", 3, 0), 16) == 0
    d.start(call, one, bytes(8), 1, 0)
    assert d.retry("signal") == "EINTR"


def test_a_write_with_a_timeout_is_not_restarted(d: Direct) -> None:
    one, _ = pair(d)
    assert d.call("fcntl", one, 4, 0o4000) == 0
    while isinstance(d.write(one, bytes(1 << 16)), int):
        pass
    assert d.call("fcntl", one, 4, 0) == 0
    d.start("write", one, b"x", 1)
    assert d.retry("signal") is RESTART
    assert d.call("setsockopt", one, SOL_SOCKET, SO_SNDTIMEO, struct.pack("<qq", 3, 0), 16) == 0
    d.start("write", one, b"x", 1)
    assert d.retry("signal") == "EINTR"


def test_waits_for_asynchronous_io(d: Direct) -> None:
    at = d.put(bytes(8))
    assert d.call("io_setup", 1, at) == 0
    (context,) = struct.unpack("<Q", d.get(at, 8))
    d.start("io_getevents", context, 1, 1, d.room(32), 0)
    assert d.retry("signal") == "EINTR"
    d.start("io_pgetevents", context, 1, 1, d.room(32), 0, 0)
    assert d.retry("signal") is RESTART_NO_HAND


def test_a_poll_whose_time_cannot_be_stored_is_not_restarted(d: Direct) -> None:
    """poll_select_finish()."""
    time = d.mm.map(d.k, 0, 4096, 3, 0x22)
    assert d.mm.space.write(time, struct.pack("<qq", 5, 0))
    d.start("ppoll", 0, 0, time, 0, 8)
    d.idle(2 * SECOND)
    assert d.retry("signal") is RESTART_NO_HAND
    assert struct.unpack("<qq", d.get(time, 16)) == (3, 0)
    d.mm.protect(d.k, time, 4096, 1)
    d.start("ppoll", 0, 0, time, 0, 8)
    assert d.retry("signal") == "EINTR"
