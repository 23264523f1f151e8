"""Queues, masks, actions, restarts, stops: signals as in kernel/signal.c."""

from __future__ import annotations

import pytest
from guest_run import run

SA_SIGINFO, SA_NOCLDWAIT, SA_RESTART = 4, 2, 0x1000_0000
SA_NODEFER, SA_RESETHAND = 0x4000_0000, 0x8000_0000
EINTR, EAGAIN = 2**64 - 4, 2**64 - 11


def guest(text: str, flags: int = SA_SIGINFO) -> str:
    """The handler reports the signal and its si_value."""
    return f"""
    {text}
    exit 0
handler:
    mv s2, a0
    report s2
    lw s3, 24(a1)
    report s3
    ret
    .align 8
action: .dword handler, {flags}, 0
ignore: .dword 1, 0, 0
default: .dword 0, 0, 0
old: .zero 24
none: .dword 0
all: .dword -1
usr1: .dword 0x200
info: .zero 128
second: .dword 0, 1000000
fds: .dword 0
word: .dword 0
status: .dword 0
"""


def queue(signo: int, value: int) -> str:
    """rt_sigqueueinfo(getpid(), signo, {SI_QUEUE, value})."""
    return f"""
    sys 172
    li s0, info
    li t1, -1
    sw t1, 8(s0)
    li t1, {value}
    sw t1, 24(s0)
    li a1, {signo}
    li a2, info
    sys 138
    """


BLOCK_ALL = "sys 135, 2, all, 0, 8"
UNBLOCK = "sys 135, 2, none, 0, 8"
HANDLE = "\n".join(f"sys 134, {signo}, action, 0, 8" for signo in (10, 12, 34, 35))
KILL_SELF = "sys 172\nli a1, {}\nsys 129"


def test_standard_signals_coalesce_and_real_time_ones_queue() -> None:
    sent = [(35, 1), (10, 2), (34, 3), (10, 4), (34, 5), (34, 6)]
    text = "\n".join((HANDLE, BLOCK_ALL, *(queue(*one) for one in sent), UNBLOCK))
    result = run(guest(text))
    assert result.status == 0
    # The lowest number gets its frame first, so the highest runs first. A signal blocks itself.
    pairs = list(zip(result.words[::2], result.words[1::2], strict=True))
    assert pairs == [(35, 1), (34, 3), (34, 5), (34, 6), (10, 2)]


def test_deliveries_are_in_linux_order() -> None:
    sent = [(35, 1), (12, 2), (10, 3)]
    text = "\n".join((HANDLE, BLOCK_ALL, *(queue(*one) for one in sent), UNBLOCK))
    rows = run(guest(text)).rows("signals")
    assert [r["signo"] for r in rows if r["kind"] == "delivery"] == [10, 12, 35]


def test_pending_is_what_is_blocked() -> None:
    text = f"""
    {HANDLE}
    {BLOCK_ALL}
    {queue(10, 0)}
    {queue(34, 0)}
    sys 136, old, 8
    li s0, old
    ld s1, 0(s0)
    report s1
    """
    assert run(guest(text)).words == [1 << 9 | 1 << 33]


def test_an_ignored_signal_is_forgotten() -> None:
    text = f"{BLOCK_ALL}\n{queue(10, 1)}\nsys 134, 10, ignore, 0, 8\n{HANDLE}\n{UNBLOCK}"
    assert run(guest(text)).words == []


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("sys 134, 65, action, 0, 8", "EINVAL"),
        ("sys 134, 9, action, 0, 8", "EINVAL"),
        ("sys 134, 10, action, 0, 4", "EINVAL"),
        ("sys 134, 10, 8, 0, 8", "EFAULT"),
        ("sys 135, 3, all, 0, 8", "EINVAL"),
        ("sys 136, old, 9", "EINVAL"),
        ("sys 129, 4242, 10", "ESRCH"),
        ("sys 129, 0, 65", "EINVAL"),
        ("sys 130, 0, 10", "EINVAL"),
        ("sys 131, 4242, 4242, 10", "ESRCH"),
        ("sys 138, 4242, 10, info", "EPERM"),
        ("sys 137, usr1, 0, old, 8", "EAGAIN"),
        ("sys 137, usr1, 0, bad, 8", "EINVAL"),
    ],
)
def test_errnos(call: str, answer: str) -> None:
    errno = {"EINVAL": 22, "EFAULT": 14, "ESRCH": 3, "EPERM": 1, "EAGAIN": 11}[answer]
    bad = "bad: .dword 0, 1000000000\n"
    result = run(guest(f"{call}\nreport a0") + bad)
    assert result.words == [2**64 - errno]


@pytest.mark.parametrize("signo", [9, 15, 6, 11])
def test_death_by_default(signo: int) -> None:
    """No core is written: bit 0x80 is clear."""
    result = run(guest(KILL_SELF.format(signo)))
    assert result.status == signo
    [fatal] = result.rows("signals")
    assert (fatal["kind"], fatal["signo"], fatal["sender"]) == ("fatal", signo, result.pid)


@pytest.mark.parametrize("signo", [17, 18, 23, 28])
def test_ignored_by_default(signo: int) -> None:
    result = run(guest(KILL_SELF.format(signo)))
    assert (result.status, result.rows("signals")) == (0, [])


def test_resethand() -> None:
    text = f"sys 134, 10, action, 0, 8\n{KILL_SELF.format(10)}\n{KILL_SELF.format(10)}"
    result = run(guest(text, SA_SIGINFO | SA_RESETHAND))
    assert len(result.words) == 2
    assert result.status == 10


@pytest.mark.parametrize(("flags", "inside"), [(SA_SIGINFO, 0), (SA_SIGINFO | SA_NODEFER, 1)])
def test_nodefer(flags: int, inside: int) -> None:
    """The handler sends its signal again, which is delivered at once, or when it has returned."""
    text = f"""
        sys 134, 10, action, 0, 8
        {KILL_SELF.format(10)}
        exit 0
    handler:
        li s0, depth
        ld s1, 0(s0)
        addi s1, s1, 1
        sd s1, 0(s0)
        addi s2, s1, -3
        beqz s2, done
        addi sp, sp, -16
        sd ra, 0(sp)
        sd s1, 8(sp)
        {KILL_SELF.format(10)}
        ld ra, 0(sp)
        ld s1, 8(sp)
        addi sp, sp, 16
    done:
        report s1
        ret
    .align 8
    action: .dword handler, {flags}, 0
    depth: .dword 0
    """
    assert run(text).words == ([3, 2, 1] if inside else [1, 2, 3])


# A child that lets its parent block, signals it, and writes what it blocks for.
CHILD = """
    sys 59, fds, 0
    sys 220, 17, 0, 0, 0, 0
    bnez a0, parent
    sys 101, nap, 0
    sys 173
    li a1, {signo}
    sys 129
    sys 101, nap, 0
    li s0, fds
    lw a0, 4(s0)
    li a1, word
    li a2, 1
    sys 64
    exit 0
parent:
"""
READ = "li s0, fds\nlw a0, 0(s0)\nli a1, word\nli a2, 1\nsys 63\nreport a0"
NAP = "nap: .dword 0, 1000000\n"


@pytest.mark.parametrize(("flags", "answer"), [(SA_SIGINFO | SA_RESTART, 1), (SA_SIGINFO, EINTR)])
def test_an_interrupted_read(flags: int, answer: int) -> None:
    text = f"sys 134, 10, action, 0, 8\n{CHILD.format(signo=10)}\n{READ}"
    result = run(guest(text, flags) + NAP)
    assert result.words[0] == 10
    assert result.words[2] == answer
    outcomes = [c["outcome"] for c in result.rows("syscalls") if c["name"] == "read"]
    assert outcomes == (["restarted", "returned"] if answer == 1 else ["returned"])


def test_an_ignored_signal_interrupts_nothing() -> None:
    result = run(guest(f"{CHILD.format(signo=17)}\n{READ}") + NAP)
    assert result.words == [1]


@pytest.mark.parametrize(
    ("flags", "answer"), [(SA_SIGINFO | SA_RESTART, 2**64 - 110), (SA_SIGINFO, EINTR)]
)
def test_an_interrupted_futex_wait_is_restarted(flags: int, answer: int) -> None:
    """FUTEX_WAIT_BITSET with an absolute timeout, so that the wait ends."""
    text = f"""
        sys 134, 10, action, 0, 8
        {CHILD.format(signo=10)}
        sys 98, word, 9, 0, until, 0, -1
        report a0
    """
    result = run(guest(text, flags) + NAP + "until: .dword 1, 0\n")
    assert result.words[0] == 10
    assert result.words[2] in (answer, EINTR)


def test_sigsuspend_waits_with_another_mask() -> None:
    text = f"""
        {HANDLE}
        {BLOCK_ALL}
        {CHILD.format(signo=10)}
        sys 133, none, 8
        report a0
        sys 135, 0, 0, old, 8
        li s0, old
        ld s1, 0(s0)
        report s1
    """
    result = run(guest(text) + NAP)
    assert result.words[0] == 10
    assert result.words[2:] == [EINTR, 2**64 - 1 & ~(1 << 8 | 1 << 18)]


def test_sigtimedwait_takes_what_is_blocked() -> None:
    text = f"""
        {BLOCK_ALL}
        {CHILD.format(signo=10)}
        sys 137, usr1, info, 0, 8
        report a0
        li s0, info
        lw s1, 16(s0)
        sys 137, usr1, 0, second, 8
        report a0
    """
    result = run(guest(text) + NAP)
    assert result.words == [10, EAGAIN]
    assert result.rows("signals") == []


def test_sigtimedwait_is_interrupted_by_another() -> None:
    text = f"""
        sys 134, 12, action, 0, 8
        sys 135, 0, usr1, 0, 8
        {CHILD.format(signo=12)}
        sys 137, usr1, 0, 0, 8
        report a0
    """
    result = run(guest(text) + NAP)
    assert result.words[0] == 12
    assert result.words[2] == EINTR


def test_a_child_stops_continues_and_ends() -> None:
    text = """
        sys 220, 17, 0, 0, 0, 0
        bnez a0, parent
        sys 172
        li a1, 19
        sys 129
        exit 7
    parent:
        mv s7, a0
        sys 260, -1, status, 2, 0
        li s0, status
        lw s1, 0(s0)
        report s1
        mv a0, s7
        li a1, 18
        sys 129
        sys 260, -1, status, 8, 0
        lw s1, 0(s0)
        report s1
        sys 260, -1, status, 0, 0
        lw s1, 0(s0)
        report s1
    """
    result = run(guest(text))
    assert result.words == [19 << 8 | 0x7F, 0xFFFF, 7 << 8]


def test_a_terminal_stop_means_nothing_to_an_orphaned_group() -> None:
    assert run(guest(KILL_SELF.format(20))).status == 0


def test_sigchld_tells_who_and_how() -> None:
    text = """
        sys 134, 17, action, 0, 8
        sys 220, 17, 0, 0, 0, 0
        bnez a0, parent
        exit 7
    parent:
        report a0
        sys 260, -1, status, 0, 0
    """
    result = run(guest(text))
    assert result.words[1:] == [17, 7]
    [delivery, _] = result.rows("signals")
    assert (delivery["code"], delivery["sender"]) == (1, result.words[0])


@pytest.mark.parametrize("setup", ["sys 134, 17, ignore, 0, 8", "sys 134, 17, nowait, 0, 8"])
def test_children_of_who_does_not_care_leave_no_zombie(setup: str) -> None:
    text = f"""
        {setup}
        sys 220, 17, 0, 0, 0, 0
        bnez a0, parent
        exit 7
    parent:
        sys 260, -1, status, 0, 0
        report a0
    """
    data = f"nowait: .dword 0, {SA_NOCLDWAIT}, 0\n"
    assert run(guest(text) + data).words == [2**64 - 10]


THREAD = """
    li a0, 0x50f00
    li a1, stack
    sys 220
    beqz a0, thread
"""


def test_a_process_signal_goes_to_the_leader() -> None:
    """Even if another thread of the group sends the signal and could take it."""
    text = f"""
        sys 134, 10, action, 0, 8
        {THREAD}
        sys 101, second, 0
        sys 93, 0
    thread:
        {KILL_SELF.format(10)}
        exit 0
    """
    result = run(guest(text) + ".zero 4096\nstack: .dword 0\n")
    [delivery, _] = result.rows("signals")
    assert delivery["tid"] == result.pid


def test_a_process_signal_the_leader_blocks_goes_to_a_thread() -> None:
    text = f"""
        sys 134, 10, action, 0, 8
        {THREAD}
        sys 135, 0, usr1, 0, 8
        sys 101, second, 0
        {KILL_SELF.format(10)}
        sys 101, second, 0
        sys 94, 0
    thread:
        sys 101, longer, 0
        exit 0
    """
    result = run(guest(text) + "longer: .dword 0, 100000000\n.zero 4096\nstack: .dword 0\n")
    [delivery, _] = result.rows("signals")
    assert delivery["tid"] != result.pid
    [sleep] = [c for c in result.rows("syscalls") if c["name"] == "nanosleep" and c["ret"] == -4]
    assert sleep["tid"] == delivery["tid"]


def test_a_fatal_signal_ends_all_threads() -> None:
    text = f"""
        {THREAD}
    forever: j forever
    thread:
        {KILL_SELF.format(15)}
        j forever
    """
    result = run(guest(text) + ".zero 4096\nstack: .dword 0\n")
    assert result.status == 15
    # The sender is in the group, so its call doesn't return.
    assert result.rows("syscalls")[-1]["name"] == "kill"
    [fatal] = result.rows("signals")
    assert fatal["tid"] != result.pid
    assert len([r for r in result.rows("signals") if r["kind"] == "fatal"]) == 1
    assert len([r for r in result.rows("task_events") if r["kind"] == "exit_begin"]) == 2


def test_what_comes_to_a_stopped_process_waits() -> None:
    """The child stops itself. A signal sent during the stop is taken when it continues."""
    text = """
        sys 134, 10, action, 0, 8
        sys 220, 17, 0, 0, 0, 0
        bnez a0, parent
        sys 172
        li a1, 19
        sys 129
        exit 7
    parent:
        mv s7, a0
        sys 260, -1, status, 2, 0
        mv a0, s7
        li a1, 10
        sys 129
        sys 101, second, 0
        li s0, -1
        report s0
        mv a0, s7
        li a1, 18
        sys 129
        sys 260, -1, status, 0, 0
    """
    assert run(guest(text)).words == [2**64 - 1, 10, 0]


def test_sigkill_ends_a_stopped_process() -> None:
    text = """
        sys 220, 17, 0, 0, 0, 0
        bnez a0, parent
        sys 172
        li a1, 19
        sys 129
        exit 7
    parent:
        mv s7, a0
        sys 260, -1, status, 2, 0
        mv a0, s7
        li a1, 9
        sys 129
        sys 260, -1, status, 0, 0
        li s0, status
        lw s1, 0(s0)
        report s1
    """
    assert run(guest(text)).words == [9]


def test_a_fatal_signal_ends_the_wait_for_a_vfork_child() -> None:
    """A handler would not run before the child is done; a fatal signal takes effect at once."""
    text = """
        sys 134, 10, action, 0, 8
        sys 220, 0x4111, 0, 0, 0, 0
        bnez a0, parent
        sys 173
        li a1, 10
        sys 129
        sys 101, second, 0
        sys 173
        li a1, 15
        sys 129
        exit 0
    parent:
        exit 1
    """
    result = run(guest(text))
    assert result.status == 15
    assert result.words == []
    [clone] = [c for c in result.rows("syscalls") if c["name"] == "clone"]
    assert clone["outcome"] == "killed"


def test_exec_keeps_what_is_ignored_and_forgets_handlers() -> None:
    text = """
        ld s0, 0(sp)
        addi s0, s0, -1
        bnez s0, again
        sys 134, 10, action, 0, 8
        sys 134, 12, ignore, 0, 8
        sys 221, path, argv, 0
    again:
        sys 134, 10, 0, old, 8
        li s0, old
        ld s1, 0(s0)
        report s1
        sys 134, 12, 0, old, 8
        ld s1, 0(s0)
        report s1
    """
    data = "argv: .dword path, path, 0\npath: .dword 0x74736575672f\n"  # "/guest"
    assert run(guest(text) + data).words == [0, 1]


@pytest.mark.parametrize(
    "setup",
    [
        f"sys 134, 11, action, 0, 8\n{BLOCK_ALL}\n{KILL_SELF.format(11)}",
        f"sys 134, 11, action, 0, 8\n{BLOCK_ALL}",
        "sys 134, 11, ignore, 0, 8",
    ],
    ids=["blocked and pending", "blocked", "ignored"],
)
def test_an_exception_neither_waits_nor_is_ignored(setup: str) -> None:
    result = run(guest(f"{setup}\nsd zero, 0(zero)"))
    assert (result.status, result.words) == (11, [])


def test_a_full_queue() -> None:
    """RLIMIT_SIGPENDING: real-time signals with a value are refused, others are queued."""
    text = f"""
        sys 261, 0, 11, limit, 0
        {BLOCK_ALL}
        {queue(34, 1)}
        report a0
        {queue(34, 2)}
        report a0
        {queue(10, 3)}
        report a0
    """
    assert run(guest(text) + "limit: .dword 1, 1\n").words == [0, EAGAIN, 0]


def test_a_signal_interrupts_a_call_that_was_just_woken_in_vain() -> None:
    """A write to another pipe wakes the poll, and a signal is sent before it runs."""
    text = f"""
        {HANDLE}
        sys 59, fds, 0
        sys 59, others, 0
        sys 220, 17, 0, 0, 0, 0
        bnez a0, parent
        sys 101, nap, 0
        sys 173
        mv s1, a0
        li s0, others
        lw a0, 4(s0)
        li a1, word
        li a2, 1
        sys 64
        mv a0, s1
        li a1, 10
        sys 129
        exit 0
    parent:
        li s0, fds
        lw s1, 0(s0)
        li s0, polled
        sw s1, 0(s0)
        sys 73, polled, 1, 0, 0, 8
        report a0
    """
    data = "nap: .dword 0, 1000000\nothers: .dword 0\npolled: .dword 0x100000000\n"
    result = run(guest(text) + data)
    assert result.words == [10, 0, EINTR]
    calls = [row for row in result.rows("syscalls") if row["name"] == "ppoll"]
    assert [row["ret"] for row in calls] == [-4]
