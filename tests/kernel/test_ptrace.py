"""Tracees: their stops, their registers, NT_RISCV_USER_CFI (T1)."""

from __future__ import annotations

import pytest
from guest_run import run

EINVAL, EPERM, ESRCH, EIO, EAGAIN = (2**64 - errno for errno in (22, 1, 3, 5, 11))
NT_PRSTATUS, NT_RISCV_USER_CFI = 1, 0x903


def guest(child: str, parent: str) -> str:
    """The parent waits for the child's first stop; s7 is the child, s6 its wait status."""
    return f"""
    sys 220, 17, 0, 0, 0, 0
    bnez a0, parent
    sys 117, 0, 0, 0, 0
    {child}
parent:
    mv s7, a0
    call wait
    {parent}
    exit 0
wait:
    mv a0, s7
    li a1, status
    li a2, 0
    sys 260
    li s0, status
    lw s6, 0(s0)
    report s6
    ret
    .align 8
status: .dword 0
iovec: .dword regs, 256
cfi: .dword state, 16
state: .zero 16
regs: .zero 256
info: .zero 128
word: .dword 0
"""


def ptrace(request: int, addr: int | str, data: int | str) -> str:
    return f"li a0, {request}\nmv a1, s7\nli a2, {addr}\nli a3, {data}\nsys 117"


def stopped(event: int, signo: int = 5) -> int:
    return event << 16 | signo << 8 | 0x7F


MISMATCH = "enable\nsspush\ncsrr_ssp s5\nreport s5\nli ra, 5\nbad: sspopchk\nexit 1"
CONT = ptrace(7, 0, "{}")
REPORT_CFI = "li s0, state\nld s1, 0(s0)\nreport s1\nld s1, 8(s0)\nreport s1"


def test_a_fault_stops_the_child_before_the_signal() -> None:
    parent = f"""
        {ptrace(0x4204, NT_PRSTATUS, "iovec")}
        li s0, regs
        ld s1, 0(s0)
        report s1
        {ptrace(0x4202, 0, "info")}
        li s0, info
        lw s1, 8(s0)
        report s1
        ld s1, 16(s0)
        report s1
        {ptrace(0x4204, NT_RISCV_USER_CFI, "cfi")}
        {REPORT_CFI}
        {CONT.format(11)}
        call wait
    """
    result = run(guest(MISMATCH, parent))
    ssp, stopped, pc, code, addr, state, shstk_ptr, ended = result.words
    bad = result.labels["bad"]
    assert stopped == 11 << 8 | 0x7F
    assert (pc, code, addr) == (bad, 10, bad)
    assert (state, shstk_ptr) == (0x28, ssp)
    assert ended == 11


def test_a_signal_can_be_taken_away() -> None:
    child = "sys 172\nli a1, 10\nsys 129\nexit 6"
    result = run(guest(child, f"{CONT.format(0)}\ncall wait"))
    assert result.words == [10 << 8 | 0x7F, 6 << 8]


def test_a_signal_can_be_exchanged() -> None:
    child = "sys 172\nli a1, 10\nsys 129\nexit 6"
    result = run(guest(child, f"{CONT.format(15)}\ncall wait"))
    assert result.words == [10 << 8 | 0x7F, 15]


def test_at_a_landing_pad_fault_elp_is_set() -> None:
    child = "enable\nprctl 81, 0, 1, 0, 0\nli s0, bad\nbad: jr s0"
    parent = f"{ptrace(0x4204, NT_RISCV_USER_CFI, 'cfi')}\n{REPORT_CFI}"
    result = run(guest(child, f"{parent}\n{ptrace(8, 0, 0)}\ncall wait"))
    assert result.words[1] == 0x2D
    assert result.words[-1] == 9


@pytest.mark.parametrize(("kernel", "answer"), [("7.1", 0), ("7.2", EINVAL), ("7.3", EINVAL)])
def test_the_register_set_of_a_machine_without_either_feature(kernel: str, answer: int) -> None:
    """riscv_cfi_get of 7.2.13 and 7.3-rc7: -EINVAL; 7.1.8 has no such check."""
    child = "sys 172\nli a1, 10\nsys 129\nexit 6"
    asked = "".join(
        f"{ptrace(request, NT_RISCV_USER_CFI, 'cfi')}\nreport a0\n" for request in (0x4204, 0x4205)
    )
    result = run(guest(child, f"{asked}{CONT.format(0)}\ncall wait"), kernel, nousercfi=True)
    assert result.words[1:3] == [answer, answer]


STOP = "enable\nsspush\nsys 172\nli a1, 10\nsys 129\ncsrr_ssp s1\nreport s1\nexit 6"


@pytest.mark.parametrize(
    ("state", "answer"),
    [(1, EINVAL), (2, EINVAL), (8, EINVAL), (16, EINVAL), (64, EINVAL), (32, 0)],
)
def test_setregset_moves_ssp_and_nothing_else(state: int, answer: int) -> None:
    parent = f"""
        {ptrace(0x4204, NT_RISCV_USER_CFI, "cfi")}
        li s0, state
        ld s1, 8(s0)
        report s1
        addi s1, s1, -64
        sd s1, 8(s0)
        li s1, {state}
        sd s1, 0(s0)
        {ptrace(0x4205, NT_RISCV_USER_CFI, "cfi")}
        report a0
        {CONT.format(0)}
        call wait
    """
    _, before, got, after, status = run(guest(STOP, parent)).words
    assert got == answer
    assert after == (before if answer else before - 64)
    assert status == 6 << 8


def test_peek_and_poke_reach_a_shadow_stack() -> None:
    parent = f"""
        {ptrace(0x4204, NT_RISCV_USER_CFI, "cfi")}
        li s0, state
        ld s5, 8(s0)
        li a0, 5
        mv a1, s7
        mv a2, s5
        li a3, 77
        sys 117
        report a0
        li a0, 2
        mv a1, s7
        mv a2, s5
        li a3, word
        sys 117
        li s0, word
        ld s1, 0(s0)
        report s1
    """
    result = run(guest(STOP, f"{parent}\n{CONT.format(0)}\ncall wait"))
    assert result.words[1:3] == [0, 77]
    writes = [m for m in result.rows("kernel_memory") if m["bytes"] == (77).to_bytes(8, "little")]
    assert [m["op"] for m in writes] == ["write", "read", "write"]


@pytest.mark.parametrize(
    ("request_", "answer"), [(31, ESRCH), (0x4208, ESRCH), (16, EPERM), (7, ESRCH)], ids=str
)
def test_what_is_refused(request_: int, answer: int) -> None:
    """A request for a running child fails with ESRCH, whether there is one of this number."""
    parent = f"{CONT.format(0)}\n{ptrace(request_, 0, 0)}\nreport a0\ncall wait"
    result = run(guest(STOP, parent))
    assert result.words[1] == answer


def test_a_request_that_there_is_none_of() -> None:
    """RISC-V lacks PTRACE_SYSEMU (31)."""
    assert run(guest(STOP, f"{ptrace(31, 0, 0)}\nreport a0")).words[1] == EIO


def test_a_traced_child_stops_after_exec() -> None:
    child = "sys 221, path, argv, 0"
    start = "ld s0, 0(sp)\naddi s0, s0, -1\nbeqz s0, begin\nexit 5\nbegin:\n"
    data = "argv: .dword path, path, 0\npath: .dword 0x74736575672f\n"  # "/guest"
    text = start + guest(child, f"{CONT.format(0)}\ncall wait") + data
    assert run(text).words == [5 << 8 | 0x7F, 5 << 8]


@pytest.mark.parametrize(("waits", "status"), [(True, 6 << 8), (False, 15)])
def test_when_its_tracer_ends_the_child_goes_on(waits: bool, status: int) -> None:
    """Without the signal that it had stopped at, if the tracer has waited for the stop."""
    text = guest("sys 172\nli a1, 15\nsys 129\nexit 6", "")
    if not waits:
        text = text.replace("call wait", "sys 101, tick, 0") + "tick: .dword 0, 1000000\n"
    result = run(text)
    ends = {e["tid"]: e["status"] for e in result.rows("task_events") if e["kind"] == "exit_begin"}
    assert ends == {100: 0, 101: status}


def test_a_killed_tracee_tells_only_its_end() -> None:
    child = "sys 172\nli a1, 10\nsys 129\nexit 6"
    kill = "mv a0, s7\nli a1, 9\nsys 129\ncall wait"
    assert run(guest(child, kill)).words == [10 << 8 | 0x7F, 9]


KILL_SELF = "sys 172\nli a1, {}\nsys 129"
SELF_STOP = "sys 172\nli a1, 10\nsys 129"


def test_there_is_no_single_step() -> None:
    """arch_has_single_step() is 0 on RISC-V. The child stays stopped."""
    parent = f"{ptrace(9, 0, 0)}\nreport a0\n{CONT.format(0)}\ncall wait"
    result = run(guest(f"{SELF_STOP}\nexit 6", parent))
    assert result.words == [stopped(0, 10), EIO, 6 << 8]
    assert not result.warnings


def test_attach_stops_a_running_child_and_detach_lets_it_go() -> None:
    text = f"""
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        mv s7, a0
        {ptrace(16, 0, 0)}
        report a0
        call wait
        {ptrace(16, 0, 0)}
        report a0
        {ptrace(17, 0, 0)}
        report a0
        mv a0, s7
        li a1, 9
        sys 129
        call wait
        exit 0
    child: j child
    """
    data = guest("", "").split("wait:")[1]
    result = run(f"{text}\nwait:{data}")
    assert result.words == [0, stopped(0, 19), EPERM, 0, 9]


@pytest.mark.parametrize(
    ("flags", "option", "event"), [(17, 2, 1), (0x4100, 4, 2), (0x100, 8, 3)], ids=str
)
def test_children_are_followed(flags: int, option: int, event: int) -> None:
    """The parent of the new task stops, and so does the new task."""
    child = f"{SELF_STOP}\nsys 220, {flags}, 0, 0, 0, 0\nexit 6"
    any_wait = """
        li a0, -1
        li a1, status
        li a2, 0x40000000
        li a3, 0
        sys 260
        li s0, status
        lw s6, 0(s0)
        report s6
    """
    parent = f"""
        {ptrace(0x4200, 0, option)}
        {CONT.format(0)}
        {any_wait}
        {ptrace(0x4201, 0, "word")}
        {any_wait}
        {CONT.format(0)}
        li s0, word
        ld s7, 0(s0)
        {CONT.format(0)}
        {any_wait}
        {any_wait}
    """
    words = run(guest(child, parent)).words
    assert sorted(words[1:3]) == sorted([stopped(event), stopped(0, 19)])
    assert words[3:] == [6 << 8, 6 << 8]


def test_exec_is_an_event() -> None:
    child = f"{SELF_STOP}\nsys 221, path, argv, 0"
    start = "ld s0, 0(sp)\naddi s0, s0, -1\nbeqz s0, begin\nexit 5\nbegin:\n"
    data = "argv: .dword path, path, 0\npath: .dword 0x74736575672f\n"
    parent = f"{ptrace(0x4200, 0, 16)}\n{CONT.format(0)}\ncall wait\n{CONT.format(0)}\ncall wait"
    assert run(start + guest(child, parent) + data).words[1:] == [stopped(4), 5 << 8]


@pytest.mark.parametrize("number", [93, 94])
def test_exit_is_an_event(number: int) -> None:
    child = f"{SELF_STOP}\nsys {number}, 7"
    parent = f"""
        {ptrace(0x4200, 0, 0x40)}
        {CONT.format(0)}
        call wait
        {ptrace(0x4201, 0, "word")}
        li s0, word
        ld s1, 0(s0)
        report s1
        {CONT.format(0)}
        call wait
    """
    assert run(guest(child, parent)).words[1:] == [stopped(6), 7 << 8, 7 << 8]


def test_stops_at_calls_show_and_change_them() -> None:
    """The tracer changes a1 (kill's signal) at the entry, and reads the result at the exit."""
    child = f"{SELF_STOP}\nli s9, 6\nli a0, 0\nli a1, 77\nsys 24\nmv s9, a0\nreport s9\nexit 6"
    to_call = f"{ptrace(24, 0, 0)}\ncall wait"
    parent = f"""
        {ptrace(0x4200, 0, 1)}
        {to_call}
        {ptrace(0x420E, 128, "info")}
        report a0
        li s0, info
        ld s1, 24(s0)
        report s1
        {ptrace(0x4204, NT_PRSTATUS, "iovec")}
        li s0, regs
        li s1, 1
        sd s1, 88(s0)
        li s1, 172
        sd s1, 136(s0)
        {ptrace(0x4205, NT_PRSTATUS, "iovec")}
        {to_call}
        {ptrace(0x420E, 128, "info")}
        report a0
        li s0, info
        ld s1, 24(s0)
        report s1
        {CONT.format(0)}
        call wait
    """
    result = run(guest(child, parent))
    pid = 101
    assert result.words[1:] == [*(stopped(0, 0x85), 80, 24, stopped(0, 0x85), 33, pid, pid, 6 << 8)]


def test_detached_before_a_call_the_child_makes_it() -> None:
    """FUTEX_WAIT with a value that differs: the call returns EAGAIN and doesn't block."""
    child = "sys 172\nli a1, 10\nsys 129\nsys 98, word, 0, 1, 0\nreport a0\nexit 6"
    to_call, detach = ptrace(24, 0, 0), ptrace(17, 0, 0)
    result = run(guest(child, f"{to_call}\ncall wait\n{detach}\ncall wait"))
    assert result.words == [10 << 8 | 0x7F, 5 << 8 | 0x7F, EAGAIN, 6 << 8]


def test_a_seized_child_is_interrupted_in_its_sleep() -> None:
    text = f"""
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        mv s7, a0
        {ptrace(0x4206, 0, 1 << 20)}
        report a0
        sys 124
        {ptrace(0x4207, 0, 0)}
        call wait
        exit 0
    child:
        sys 73, 0, 0, 0, 0
        exit 1
    """
    data = guest("", "").split("wait:")[1]
    result = run(f"{text}\nwait:{data}")
    assert result.words == [0, stopped(128)]
    assert [row["signo"] for row in result.rows("signals")] == [9], "EXITKILL"


def test_a_stop_of_the_whole_process_is_the_tracers() -> None:
    child = f"{SELF_STOP}\nsys 172\nli a1, 19\nsys 129\nexit 6"
    parent = f"{CONT.format(0)}\ncall wait\n{CONT.format(19)}\ncall wait\n"
    parent += f"{ptrace(0x4202, 0, 'info')}\nreport a0\n{CONT.format(0)}\ncall wait"
    words = run(guest(child, parent)).words
    assert words[1:] == [stopped(0, 19), stopped(0, 19), EINVAL, 6 << 8]


def test_a_tracee_that_is_killed_by_another_thread_has_no_stop_left() -> None:
    """A thread stops at a signal, then the leader ends the group: wait reports only that end."""
    child = """
        sys 220, 0x50f00, stack, 0, 0, 0
        beqz a0, thread
        mv s8, a0
        sys 124
        sys 94, 7
    thread:
        sys 117, 0, 0, 0, 0
        sys 172
        mv s9, a0
        sys 178
        mv a1, a0
        mv a0, s9
        li a2, 10
        sys 131
        exit 6
        .zero 512
    stack: .dword 0
    """
    result = run(guest(child, ""))
    assert (result.ending, result.words) == ("exited", [7 << 8])


def test_a_tracer_listens_to_a_stopped_child() -> None:
    """PTRACE_LISTEN: no other request works meanwhile; the end of the stop is an event."""
    text = f"""
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        mv s7, a0
        {ptrace(0x4206, 0, 1 << 20)}
        {ptrace(0x4208, 0, 0)}
        report a0
        mv a0, s7
        li a1, 19
        sys 129
        call wait
        {CONT.format(19)}
        call wait
        {ptrace(0x4208, 0, 0)}
        report a0
        {CONT.format(0)}
        report a0
        mv a0, s7
        li a1, 18
        sys 129
        call wait
        {CONT.format(0)}
        call wait
        {CONT.format(18)}
        exit 0
    child:
        sys 73, 0, 0, 0, 0
        exit 1
    """
    result = run(f"{text}\nwait:{guest('', '').split('wait:')[1]}")
    assert result.words == [
        *(ESRCH, stopped(0, 19), stopped(128, 19)),
        *(0, ESRCH, stopped(128), stopped(0, 18)),
    ]


def test_pending_signals_of_a_child_are_shown() -> None:
    """PTRACE_PEEKSIGINFO: {from which on, of the process, how many}."""
    sent = "\n".join(KILL_SELF.format(signo) for signo in (10, 12, 19))
    child = f"sys 135, 0, all, 0, 8\n{sent}\nexit 6"
    parent = f"""
        {ptrace(0x4209, "ask", "info")}
        report a0
        li s0, info
        lw s1, 0(s0)
        report s1
        {ptrace(0x4209, "bad", "info")}
        report a0
    """
    data = "all: .dword -1\nask: .dword 1, 0x500000001\nbad: .dword 0, 0x500000002\n"
    result = run(guest(child, parent) + data)
    assert result.words[1:] == [1, 12, EINVAL]
