"""Supm: the upper PMLEN bits of data addresses are ignored, not those of fetches."""

from __future__ import annotations

import pytest
from guest import DATA, ECALL, STACK_END, TEXT, Guest, jalr, ld, r_type, sd

from shstk.tracer import _core

TAG = {7: 0x55 << 57, 16: 0x7FFF << 48}
LR_D, SC_D, SSPUSH_RA = 0x1000302F, 0x1800302F, 0xCE104073


@pytest.mark.parametrize("pmlen", [7, 16])
def test_loads_and_stores_ignore_the_tag(pmlen: int) -> None:
    guest = Guest([sd(11, 10), ld(12, 10, 8), ECALL])
    guest.hart.pmlen = pmlen
    guest.space.write(DATA + 8, (99).to_bytes(8, "little"))
    guest.hart.set_x(10, DATA | TAG[pmlen])
    guest.hart.set_x(11, 7)
    assert guest.run() == _core.STOP_ECALL
    assert guest.space.read(DATA, 8) == (7).to_bytes(8, "little")
    assert guest.hart.x(12) == 99


@pytest.mark.parametrize(("pmlen", "beyond"), [(0, 1 << 63), (7, 1 << 56), (16, 1 << 47)])
def test_other_bits_are_not_ignored(pmlen: int, beyond: int) -> None:
    guest = Guest([ld(12, 10), ECALL])
    guest.hart.pmlen = pmlen
    guest.hart.set_x(10, DATA | beyond)
    assert guest.run() == _core.STOP_FAULT
    cause, tval, _, address, _, _ = guest.hart.fault()
    assert cause == 13
    assert tval == address != DATA


def test_a_fault_tells_the_transformed_address() -> None:
    guest = Guest([ld(12, 10), ECALL])
    guest.hart.pmlen = 7
    guest.hart.set_x(10, 0xDEAD000 | TAG[7])
    assert guest.run() == _core.STOP_FAULT
    cause, tval, _, address, _, _ = guest.hart.fault()
    assert (cause, tval, address) == (13, 0xDEAD000, 0xDEAD000)


def test_turned_off_again_nothing_is_remembered() -> None:
    guest = Guest([ld(12, 10), ECALL])
    guest.hart.pmlen = 7
    guest.hart.set_x(10, DATA | TAG[7])
    assert guest.run() == _core.STOP_ECALL
    guest.hart.pc, guest.hart.pmlen = TEXT, 0
    assert guest.run() == _core.STOP_FAULT


def test_fetches_are_not_masked() -> None:
    guest = Guest([jalr(0, 10), ECALL])
    guest.hart.pmlen = 16
    guest.hart.set_x(10, TEXT + 4 | TAG[16])
    assert guest.run() == _core.STOP_FAULT
    assert guest.hart.fault()[0] == 12


def test_a_reservation_is_one_whatever_the_tag() -> None:
    guest = Guest([r_type(LR_D, rd=12, rs1=10), r_type(SC_D, rd=13, rs1=14, rs2=11), ECALL])
    guest.hart.pmlen = 7
    guest.hart.set_x(10, DATA | TAG[7])
    guest.hart.set_x(14, DATA | 1 << 57)
    guest.hart.set_x(11, 5)
    assert guest.run() == _core.STOP_ECALL
    assert guest.hart.x(13) == 0
    assert guest.space.read(DATA, 8) == (5).to_bytes(8, "little")


def test_pushes_are_masked_too() -> None:
    guest = Guest([SSPUSH_RA, ECALL])
    guest.hart.sse, guest.hart.pmlen = True, 7
    guest.hart.ssp = STACK_END | TAG[7]
    guest.hart.set_x(1, 0x1234)
    assert guest.run() == _core.STOP_ECALL
    assert guest.hart.ssp == (STACK_END | TAG[7]) - 8
    assert guest.space.read(STACK_END - 8, 8) == (0x1234).to_bytes(8, "little")


def test_states_carry_it_and_lengths_are_checked() -> None:
    machine = _core.Machine()
    hart, other = _core.Hart(machine), _core.Hart(machine)
    hart.pmlen = 16
    other.restore(hart.state())
    assert (other.pmlen, hart.copy().pmlen) == (16, 16)
    with pytest.raises(ValueError, match="pmlen"):
        hart.pmlen = 8
