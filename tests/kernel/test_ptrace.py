"""A traced child: its stops, its registers, NT_RISCV_USER_CFI (T1)."""

from __future__ import annotations

import pytest
from guest_run import run

EINVAL, ESRCH, EIO = 2**64 - 22, 2**64 - 3, 2**64 - 5
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
    ("request_", "answer"), [(9, EIO), (16, EIO), (0x4200, 0), (7, ESRCH)], ids=str
)
def test_what_is_refused(request_: int, answer: int) -> None:
    """A running child answers ESRCH; what is not modelled is refused by name."""
    parent = f"{CONT.format(0)}\n{ptrace(request_, 0, 0)}\nreport a0\ncall wait"
    result = run(guest(STOP, parent))
    assert result.words[1] == (ESRCH if request_ == 0x4200 else answer)
    assert bool(result.warnings) == (answer == EIO)


def test_a_traced_child_stops_after_exec() -> None:
    child = "sys 221, path, argv, 0"
    start = "ld s0, 0(sp)\naddi s0, s0, -1\nbeqz s0, begin\nexit 5\nbegin:\n"
    data = "argv: .dword path, path, 0\npath: .dword 0x74736575672f\n"  # "/guest"
    text = start + guest(child, f"{CONT.format(0)}\ncall wait") + data
    assert run(text).words == [5 << 8 | 0x7F, 5 << 8]


def test_when_its_tracer_ends_the_child_goes_on() -> None:
    child = "sys 172\nli a1, 15\nsys 129\nexit 6"
    result = run(guest(child, ""))
    assert result.ending == "exited"
    [fatal] = result.rows("signals")
    assert (fatal["kind"], fatal["signo"]) == ("fatal", 15)


def test_a_killed_tracee_tells_only_its_end() -> None:
    child = "sys 172\nli a1, 10\nsys 129\nexit 6"
    kill = "mv a0, s7\nli a1, 9\nsys 129\ncall wait"
    assert run(guest(child, kill)).words == [10 << 8 | 0x7F, 9]
