"""Virtual time: clocks, sleeping, timers and their signals."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.call import RESTART_BLOCK, Wait
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.task import CpuTime, SigAction
from shstk.tracer.kernel.time.timers import TIMERS

EPOCH = 1_712_187_654  # 2024-04-03 23:40:54 UTC
REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU, BOOTTIME = 0, 1, 2, 3, 7
SECOND = 10**9
SIGALRM, SIGVTALRM, SIGPROF = 14, 26, 27


@pytest.fixture
def d() -> Direct:
    """A task with a handler for every signal: signals stay pending and don't kill it."""
    d = Direct()
    d.t.process.sighand.actions = {signo: SigAction(handler=0x10000) for signo in range(1, 65)}
    return d


def timespec(ns: int) -> bytes:
    return struct.pack("<qq", *divmod(ns, SECOND))


def now(d: Direct, clock: int) -> object:
    addr = d.room(16)
    result = d.call("clock_gettime", clock, addr)
    if result != 0:
        return result
    sec, nsec = struct.unpack("<qq", d.get(addr, 16))
    return sec * SECOND + nsec


def test_clocks_start_at_a_fixed_moment(d: Direct) -> None:
    d.idle(1234)
    assert now(d, REALTIME) == EPOCH * SECOND + 1234
    assert now(d, MONOTONIC) == now(d, BOOTTIME) == 1234
    assert now(d, 10) == now(d, 99) == "EINVAL"
    addr = d.room(16)
    assert d.call("clock_getres", MONOTONIC, addr) == 0
    assert d.get(addr, 16) == timespec(1)
    d.call("gettimeofday", addr, 0)
    assert d.get(addr, 16) == struct.pack("<qq", EPOCH, 1)
    assert d.call("clock_settime", REALTIME, addr) == "EPERM"


def test_cpu_time_is_instructions_and_calls_and_stands_still_in_sleep(d: Direct) -> None:
    d.t.icount, d.t.system_ns = 400, 100
    d.idle(10**9)
    d.t.process.exited_cpu = CpuTime(60, 10)
    assert (now(d, THREAD_CPU), now(d, PROCESS_CPU)) == (500, 570)
    assert now(d, ~d.t.pid << 3 | 2) == 570
    assert now(d, ~d.t.tid << 3 | 6) == 500
    assert now(d, ~9999 << 3 | 2) == "EINVAL"
    d.t.process.children_cpu = CpuTime(3 * SECOND, 2 * SECOND)
    addr = d.room(144)
    d.call("getrusage", -1, addr)
    assert struct.unpack_from("<4q", d.get(addr, 32)) == (3, 0, 2, 0)
    d.t.system_ns = SECOND
    assert d.call("times", addr) == 100
    assert struct.unpack("<4q", d.get(addr, 32)) == (0, 100, 300, 200)
    assert d.call("getrusage", 5, addr) == "EINVAL"


@pytest.mark.parametrize(
    ("poll", "at_addr"),
    [
        ("sys 113, 1, time", 0),  # clock_gettime
        ("sys 169, time, 0", 0),  # gettimeofday
        ("sys 165, 0, time", 16),  # getrusage: system time
    ],
)
def test_polling_for_a_second_ends(poll: str, at_addr: int) -> None:
    """A call takes time, so that a program that waits by calling runs for about as long as real."""
    start = EPOCH if "169" in poll else 0
    body = f"""
        li s2, {start}
        loop: {poll}
        li s1, time
        ld s0, {at_addr}(s1)
        beq s0, s2, loop
        exit 0
        .align 8
    time: .zero 144
    """
    result = run(body, call_ns=10**7)
    assert result.ending == "exited"
    assert len(result.rows("syscalls")) == 1 + 100


def test_a_short_timer_leaves_the_program_time() -> None:
    """rt_sigreturn takes none: else each return finds the next signal."""
    result = run("""
        sys 134, 14, action, 0, 8
        sys 103, 0, value, 0
        li s0, 5000
        loop: addi s0, s0, -1
        bnez s0, loop
        exit 0
    handler: ret
        .align 8
    action: .dword handler, 0, 0
    value: .dword 0, 1, 0, 1
    """)
    assert (result.ending, result.status) == ("exited", 0)
    assert len(result.rows("signals")) >= 5


def test_the_virtual_timer_stands_still_in_calls() -> None:
    text = """
        sys 103, {}, value, 0
        loop: sys 124
        j loop
        .align 8
    value: .dword 0, 0, 0, 2
    """
    virtual, prof = run(text.format(1)), run(text.format(2))
    assert (virtual.status, prof.status) == (SIGVTALRM, SIGPROF)
    assert len(prof.rows("syscalls")) == 2
    assert 600 < len(virtual.rows("syscalls")) < 1000  # 2000 instructions


def test_a_sleep_beyond_the_clock_never_ends() -> None:
    body = "sys 101, value, 0\nexit 0\n.align 8\nvalue: .dword 0x7fffffffffffffff, 0"
    assert run(body).ending == "deadlock"


def test_csr_time_is_the_clock_and_the_other_counters_are_closed() -> None:
    """In ns (hwprobe's TIME_CSR_FREQ). Linux lets only `time` through since 6.6."""
    rdtime, rdcycle = "csrr s{}, 0xc01", "csrr s2, 0xc00"
    result = run(f"""
        {rdtime.format(0)}
        sys 101, span, 0
        {rdtime.format(1)}
        sub s1, s1, s0
        report s1
        {rdcycle}
        report s2
        .align 8
    span: .dword 1, 0
    """)
    assert result.status == 4  # SIGILL
    (slept,) = result.words
    assert SECOND < slept < SECOND + 20_000


def test_sleeping(d: Direct) -> None:
    left = d.room(16)
    wait = d.start("nanosleep", timespec(700), left)
    assert isinstance(wait, Wait)
    assert wait.deadline_ns == d.k.now_ns() + 700
    d.idle(300)
    assert d.retry("signal") is RESTART_BLOCK
    assert d.get(left, 16) == timespec(400)
    d.idle(400)
    assert d.retry("deadline") == 0
    assert d.call("nanosleep", struct.pack("<qq", 0, SECOND), 0) == "EINVAL"
    assert d.call("nanosleep", struct.pack("<qq", -1, 0), 0) == "EINVAL"


def test_sleeping_until(d: Direct) -> None:
    wait = d.start("clock_nanosleep", REALTIME, 1, timespec(EPOCH * SECOND + 5 * SECOND), 0)
    assert isinstance(wait, Wait)
    assert wait.deadline_ns == 5 * SECOND
    assert d.call("clock_nanosleep", MONOTONIC, 1, timespec(0), 0) == 0
    assert d.call("clock_nanosleep", THREAD_CPU, 0, timespec(1), 0) == "EOPNOTSUPP"


def fire_after(d: Direct, ns: int) -> list[int]:
    """Let time pass, and take the signals that came."""
    d.idle(ns)
    TIMERS.of(d.k).fire(d.k)
    taken = iter(lambda: signals.dequeue(d.k, d.t, 0), None)
    return [info.signo for info in taken if info is not None]


def test_an_interval_timer_rings_at_its_moments(d: Direct) -> None:
    value = struct.pack("<4q", 0, 300, 0, 500)  # every 300 us, first after 500
    assert d.call("setitimer", 0, value, 0) == 0
    start = d.k.now_ns()
    assert TIMERS.of(d.k).deadline(d.k, idle=True) == start + 500_000
    assert fire_after(d, 499_999) == []
    assert fire_after(d, 1) == [SIGALRM]
    assert TIMERS.of(d.k).deadline(d.k) == start + 800_000
    left = d.room(32)
    d.call("getitimer", 0, left)
    assert struct.unpack("<4q", d.get(left, 32)) == (0, 300, 0, 300)
    assert fire_after(d, 650_000) == [SIGALRM]
    assert TIMERS.of(d.k).deadline(d.k) == start + 1_400_000
    d.call("setitimer", 0, bytes(32), left)
    assert TIMERS.of(d.k).deadline(d.k) is None
    assert d.call("setitimer", 0, struct.pack("<4q", 0, 10**6, 0, 0), 0) == "EINVAL"
    assert d.call("setitimer", 3, bytes(32), 0) == "EINVAL"


def test_a_cpu_timer_waits_for_instructions(d: Direct) -> None:
    d.call("setitimer", 1, struct.pack("<4q", 0, 0, 0, 2), 0)
    assert fire_after(d, 10**9) == []
    assert TIMERS.of(d.k).deadline(d.k, idle=True) is None
    assert TIMERS.of(d.k).deadline(d.k) == d.k.now_ns() + 2000
    d.t.icount += 2000
    assert fire_after(d, 0) == [SIGVTALRM]


def test_posix_timers(d: Direct) -> None:
    event = struct.pack("<Qiii", 0x1234, 10, 0, 0).ljust(64, b"\0")
    where = d.room(4)
    assert d.call("timer_create", MONOTONIC, event, where) == 0
    [number] = struct.unpack("<i", d.get(where, 4))
    spec = timespec(100) + timespec(1000)
    assert d.call("timer_settime", number, 0, spec, 0) == 0
    d.idle(1000)
    TIMERS.of(d.k).fire(d.k)
    [info] = d.t.process.pending
    assert (info.signo, info.code, info.fields) == (10, -2, struct.pack("<iiQ", number, 0, 0x1234))
    d.idle(350)
    TIMERS.of(d.k).fire(d.k)
    assert d.t.process.pending == [info]
    assert d.call("timer_getoverrun", number) == 0
    taken = signals.dequeue(d.k, d.t, 0)
    assert taken is not None
    assert taken.fields == struct.pack("<iiQ", number, 3, 0x1234)
    assert d.call("timer_getoverrun", number) == 3
    left = d.room(32)
    d.call("timer_gettime", number, left)
    assert d.get(left, 32) == timespec(100) + timespec(50)
    assert d.call("timer_delete", number) == 0
    assert d.call("timer_delete", number) == "EINVAL"
    assert TIMERS.of(d.k).deadline(d.k) is None
    assert d.call("timer_create", 99, 0, where) == "EINVAL"


def posix_timer(d: Direct, value_ns: int, interval_ns: int, absolute: bool = False) -> int:
    where = d.room(4)
    assert d.call("timer_create", MONOTONIC, 0, where) == 0
    [number] = struct.unpack("<i", d.get(where, 4))
    spec = timespec(interval_ns) + timespec(value_ns)
    assert d.call("timer_settime", number, int(absolute), spec, 0) == 0
    return int(number)


def test_an_overrun_saturates(d: Direct) -> None:
    """timer_overrun_to_int(): more than INT_MAX missed expiries are INT_MAX of them."""
    d.idle(10 * SECOND)
    number = posix_timer(d, 1, 1, absolute=True)
    assert fire_after(d, 0) == [SIGALRM]
    assert d.call("timer_getoverrun", number) == 2**31 - 1


def test_a_period_of_a_nanosecond_costs_one_expiry_a_signal(d: Direct) -> None:
    posix_timer(d, 1, 1)
    d.idle(1)
    TIMERS.of(d.k).fire(d.k)
    assert TIMERS.of(d.k).deadline(d.k) is None
    assert fire_after(d, SECOND) == [SIGALRM]
    assert TIMERS.of(d.k).deadline(d.k) == d.k.now_ns() + 1


@pytest.mark.parametrize("spec", [timespec(0) * 2, timespec(0) + timespec(SECOND)])
def test_setting_a_timer_drops_its_queued_signal(d: Direct, spec: bytes) -> None:
    number = posix_timer(d, 100, 100)
    d.idle(500)
    TIMERS.of(d.k).fire(d.k)
    assert d.call("timer_settime", number, 0, spec, 0) == 0
    assert fire_after(d, 0) == []
    assert d.call("timer_getoverrun", number) == 0


def test_a_timer_whose_signal_is_ignored_goes_on_when_it_is_not(d: Direct) -> None:
    ignore, handle = (struct.pack("<QQQ", handler, 0, 0) for handler in (1, 0x10000))
    assert d.call("rt_sigaction", SIGALRM, ignore, 0, 8) == 0
    posix_timer(d, 100, 100)
    assert fire_after(d, 1000) == []
    assert TIMERS.of(d.k).deadline(d.k) is None
    assert d.call("rt_sigaction", SIGALRM, handle, 0, 8) == 0
    assert fire_after(d, 100) == [SIGALRM]


def test_a_timerfd_counts_what_passed_until_it_is_read(d: Direct) -> None:
    fd = d.call("timerfd_create", MONOTONIC, 0)
    assert d.call("timerfd_settime", fd, 0, timespec(100) + timespec(100), 0) == 0
    d.idle(350)
    TIMERS.of(d.k).fire(d.k)
    data = d.room(8)
    assert d.call("read", fd, data, 8) == 8
    assert d.get(data, 8) == struct.pack("<Q", 3)


def test_exec_and_exit_end_timers(d: Direct) -> None:
    where = d.room(4)
    d.call("timer_create", MONOTONIC, 0, where)
    d.call("timer_settime", 0, 0, timespec(0) + timespec(10), 0)
    d.call("setitimer", 0, struct.pack("<4q", 0, 0, 1, 0), 0)
    TIMERS.of(d.k).forget(d.k, d.t.process)
    assert TIMERS.of(d.k).deadline(d.k) == d.k.now_ns() + SECOND
    d.t.process.exit_status = 0
    assert fire_after(d, SECOND) == []
    assert TIMERS.of(d.k).deadline(d.k) is None


def test_timerfd(d: Direct) -> None:
    fd = d.call("timerfd_create", MONOTONIC, 0)
    assert d.call("timerfd_settime", fd, 0, timespec(10) + timespec(100), 0) == 0
    assert isinstance(d.start("read", fd, d.room(8), 8), Wait)
    fire_after(d, 125)
    assert d.read(fd, 8) == (3).to_bytes(8, "little")
    assert d.call("timerfd_create", THREAD_CPU, 0) == "EINVAL"
    assert d.call("timerfd_settime", 1, 0, bytes(32), 0) == "EINVAL"
    d.call("close", fd)
    assert TIMERS.of(d.k).deadline(d.k) is None


GUEST = """
    sys 134, 14, action, 0, 8
    sys 103, {which}, value, 0
{body}
    exit 0
handler:
    li t0, rung
    sd a0, 0(t0)
    report a0
    ret
    .align 8
rung: .dword 0
action: .dword handler, 0, 0
value: .dword 0, 0, 0, 50
second: .dword 1, 0
"""


def test_an_alarm_ends_a_sleep() -> None:
    """A sleep of one second ends with -EINTR after 50 us. Idle time takes no instructions."""
    result = run(GUEST.format(which=0, body="sys 101, second, second\nreport a0"))
    assert (result.ending, result.words) == ("exited", [SIGALRM, 2**64 - 4])


def test_an_alarm_interrupts_a_loop_at_its_very_instruction() -> None:
    body = """
    li s0, 0
    li s1, rung
    loop: addi s0, s0, 1
    ld s2, 0(s1)
    beq s2, zero, loop
    report s0
    """
    counts = [run(GUEST.format(which=0, body=body)).words for _ in range(2)]
    assert counts[0] == counts[1]
    assert counts[0][0] == SIGALRM
    assert 16_600 < counts[0][1] <= 16_667  # three instructions a round, 50,000 ns


def test_waiting_for_ever_is_a_deadlock_even_with_a_cpu_timer() -> None:
    result = run("""
        sys 103, 2, value, 0
        sys 133, zero_mask, 8
        exit 1
        .align 8
    value: .dword 0, 0, 0, 50
    zero_mask: .dword 0
    """)
    assert result.ending == "deadlock"


def test_rlimit_cpu_signals_at_the_soft_limit_and_kills_at_the_hard_one(d: Direct) -> None:
    sigxcpu, sigkill, second = 24, 9, 10**9
    assert d.call("setrlimit", 0, struct.pack("<QQ", 1, 2)) == 0
    d.t.sigmask = 1 << (sigxcpu - 1)
    d.t.icount = second - 1
    TIMERS.of(d.k).fire(d.k)
    assert not d.t.process.pending
    d.t.icount = second
    TIMERS.of(d.k).fire(d.k)
    assert [info.signo for info in d.t.process.pending] == [sigxcpu]
    d.t.icount = 2 * second
    TIMERS.of(d.k).fire(d.k)
    assert d.t.process.killed is not None
    assert d.t.process.killed.signo == sigkill
