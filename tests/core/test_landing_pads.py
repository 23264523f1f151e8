"""Zicfilp: which jumps expect a landing pad, what satisfies it, and ELP at the fault."""

import pytest
from guest import ECALL, MASK, TEXT, Guest, addi, jal, jalr, lpad

from shstk.tracer import _core

CFI = _core.TRACE_CFI
LPAD = 6
NONE = 255
MISSING = 0xFFFFFFFF


def guest(*words: int, lpe: bool = True, **options: object) -> Guest:
    return Guest(words, lpe=lpe, trace=CFI, **options)  # type: ignore[arg-type]


def landing(*target: int, register: int = 10, x7: int = 0, **options: object) -> Guest:
    """Jumps by a register to the target at TEXT + 8."""
    x = {7: x7, register: TEXT + 8}
    return guest(jalr(0, register), ECALL, *target, ECALL, x=x, **options)


def rows(g: Guest) -> list[tuple[int, ...]]:
    names = ("kind", "pc", "value", "operand", "fault")
    return [tuple(row[n] - (TEXT if n == "pc" else 0) for n in names) for row in g.rows("cfi")]


@pytest.mark.parametrize("label", [0, 1, 0xFFFFF])
def test_a_pad_with_the_label_or_none(label: int) -> None:
    g = landing(lpad(label), x7=label << 12 | 0xABC | 5 << 32).run_to_ecall()
    assert (g.hart.elp, g.hart.pc) == (False, TEXT + 12)
    assert rows(g) == [(LPAD, 8, label, label, NONE)]


def test_label_zero_satisfies_every_expectation() -> None:
    g = landing(lpad(0), x7=0x12345000).run_to_ecall()
    assert rows(g) == [(LPAD, 8, 0, 0x12345, NONE)]


def test_another_label() -> None:
    g = landing(lpad(5), x7=6 << 12)
    assert g.fault() == (18, 2, lpad(5), 0, 6, 5)
    assert (g.hart.pc, g.hart.elp, g.machine.icount) == (TEXT + 8, True, 2)
    assert rows(g) == [(LPAD, 8, 5, 6, 18)]


@pytest.mark.parametrize("word", [addi(0, 0, 0), 0x0001, 0xFFFFFFFF, 0x0000, ECALL])
def test_no_pad_outranks_the_illegal_instruction(word: int) -> None:
    g = landing(word, x7=3 << 12)
    shown = word if word & 3 == 3 else word & 0xFFFF
    assert g.fault() == (18, 2, shown, 0, 3, MISSING)
    assert (g.hart.pc, g.hart.elp, g.machine.icount) == (TEXT + 8, True, 2)
    assert rows(g) == [(LPAD, 8, MISSING, 3, 18)]


def test_fetch_faults_outrank_no_pad() -> None:
    g = guest(jalr(0, 10), x={10: 0x90000})
    assert g.fault()[:3] == (12, 0x90000, 0)
    assert g.hart.elp
    assert rows(g) == []


def test_a_pad_must_be_aligned_to_four() -> None:
    g = guest(jalr(0, 10), 0x0001, lpad(0), ECALL, x={10: TEXT + 6})
    assert g.fault() == (18, 2, lpad(0), 0, 0, 0)
    assert g.hart.elp


@pytest.mark.parametrize("register", [1, 5, 7])
def test_returns_and_software_guarded_jumps_expect_nothing(register: int) -> None:
    g = guest(jalr(1, register), ECALL, addi(6, 0, 1), ECALL, x={register: TEXT + 8})
    assert g.run_to_ecall().hart.x(6) == 1
    assert not g.hart.elp


@pytest.mark.parametrize("word", [jalr(0, 10, 4), jalr(1, 10, 4), jalr(5, 6, 4), 0x8502, 0x9502])
def test_every_other_indirect_jump_expects_one(word: int) -> None:
    target = TEXT + 8 - (4 if word & 3 == 3 else 0)
    g = guest(word, 0x0001, 0x0001, 0x0001, addi(0, 0, 0), x={10: target, 6: target})
    if word & 3 == 3:
        g = guest(word, ECALL, addi(0, 0, 0), x={10: target, 6: target})
    assert g.fault()[:2] == (18, 2)
    assert g.hart.elp


def test_direct_jumps_and_branches_expect_nothing() -> None:
    g = guest(jal(1, 8), ECALL, 0x00000263, ECALL).run_to_ecall()  # beq x0, x0, +4
    assert not g.hart.elp


def test_a_pad_that_nothing_expects_is_a_nop_with_a_row() -> None:
    g = guest(lpad(9), ECALL, x={7: 1 << 12}).run_to_ecall()
    assert rows(g) == [(LPAD, 0, 9, 1, NONE)]


@pytest.mark.parametrize("without", [(), ("zicfilp",)], ids=["xLPE=0", "absent"])
def test_off(without: tuple[str, ...]) -> None:
    lpe = bool(without)
    g = landing(lpad(5), lpe=lpe, without=without, x7=6 << 12).run_to_ecall()
    assert (g.hart.elp, rows(g)) == (False, [])
    g = landing(addi(6, 0, 1), lpe=lpe, without=without).run_to_ecall()
    assert g.hart.x(6) == 1


def test_expectation_survives_a_preemption() -> None:
    g = landing(addi(6, 0, 1))
    assert g.run(budget=1) == _core.STOP_BUDGET
    assert (g.hart.elp, g.hart.pc) == (True, TEXT + 8)
    assert g.fault()[:2] == (18, 2)
    g = landing(lpad(0), addi(6, 0, 1))
    assert g.run(budget=1) == _core.STOP_BUDGET
    assert g.run_to_ecall().hart.x(6) == 1


def test_a_handler_entered_with_elp_set_must_begin_with_a_pad() -> None:
    g = guest(addi(0, 0, 0), ECALL)
    g.hart.elp = True
    assert g.fault()[:2] == (18, 2)
    g = guest(lpad(0), ECALL, x={7: MASK})
    g.hart.elp = True
    assert not g.run_to_ecall().hart.elp


def test_copies_and_states_carry_elp() -> None:
    g = landing(lpad(0))
    g.run(budget=1)
    copy = g.hart.copy()
    assert (copy.elp, copy.lpe, copy.pc) == (True, True, TEXT + 8)
    assert copy.state_hash() == g.hart.state_hash()
    copy.elp = False
    assert copy.state_hash() != g.hart.state_hash()
