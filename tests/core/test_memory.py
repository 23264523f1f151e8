"""Loads, stores, atomics: values, alignment, page boundaries, reservations."""

import pytest
from guest import DATA, ECALL, MASK, TEXT, Guest, R, W, i_type, r_type, s_type, sext, signed
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.tracer import _core

# name: (word, bytes, is sign-extended)
LOADS = {
    "lb": (0x0003, 1, True),
    "lh": (0x1003, 2, True),
    "lw": (0x2003, 4, True),
    "ld": (0x3003, 8, True),
    "lbu": (0x4003, 1, False),
    "lhu": (0x5003, 2, False),
    "lwu": (0x6003, 4, False),
}
STORES = {"sb": (0x0023, 1), "sh": (0x1023, 2), "sw": (0x2023, 4), "sd": (0x3023, 8)}
PATTERN = bytes(i * 37 & 255 for i in range(0x2000))
NEAR_BORDER = [DATA + 0xFF8 + i for i in range(9)]


@pytest.mark.parametrize("name", LOADS)
@pytest.mark.parametrize("at", NEAR_BORDER)
def test_load_at_every_alignment(name: str, at: int) -> None:
    word, size, is_signed = LOADS[name]
    guest = Guest([i_type(word, 10, 11, -3), ECALL], x={11: at + 3})
    guest.space.write(DATA, PATTERN)
    raw = int.from_bytes(PATTERN[at - DATA : at - DATA + size], "little")
    assert guest.run_to_ecall().hart.x(10) == (sext(raw, 8 * size) if is_signed else raw)


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("at", NEAR_BORDER)
def test_store_at_every_alignment(name: str, at: int) -> None:
    word, size = STORES[name]
    value = 0xF1E2D3C4B5A69788
    guest = Guest([s_type(word, 11, 12, 5), ECALL], x={11: at - 5, 12: value})
    guest.space.write(DATA, PATTERN)
    guest.run_to_ecall()
    expected = bytearray(PATTERN)
    expected[at - DATA : at - DATA + size] = value.to_bytes(8, "little")[:size]
    assert guest.space.read(DATA, len(PATTERN)) == bytes(expected)


@pytest.mark.parametrize("inside", range(1, 8))
def test_an_access_into_an_unmapped_page_changes_nothing(inside: int) -> None:
    end = DATA + 0x4000
    at = end - inside
    word = s_type(0x3023, 11, 12)
    store = Guest([word], x={11: at, 12: MASK})
    assert store.fault() == (15, end, word, at, 0, 0)
    assert store.space.read(at, inside) == bytes(inside)
    load = Guest([i_type(0x3003, 10, 11)], x={10: 7, 11: at})
    assert load.fault()[:2] == (13, end)
    assert load.hart.x(10) == 7


@pytest.mark.parametrize("at", [0, 1 << 47, 1 << 56, MASK - 6, 1 << 63])
def test_wild_addresses_fault(at: int) -> None:
    assert Guest([i_type(0x3003, 10, 11)], x={11: at}).fault()[:2] == (13, at)
    assert Guest([s_type(0x3023, 11, 12)], x={11: at}).fault()[:2] == (15, at)
    guest = Guest()
    guest.hart.pc = at
    at &= ~1
    assert guest.fault()[:2] == (12, at)


def test_high_addresses_work() -> None:
    guest = Guest([s_type(0x3023, 11, 12), i_type(0x3003, 10, 11), ECALL], x={12: 77})
    top = (1 << 56) - 0x1000
    guest.space.map(top, 0x1000, R | W)
    guest.hart.set_x(11, top + 0xFF8)
    assert guest.run_to_ecall().hart.x(10) == 77


def test_the_faulting_instruction_is_exact() -> None:
    words = [0x00150513, i_type(0x3003, 10, 11), 0x00150513]  # addi a0, a0, 1 around a load
    guest = Guest(words, x={10: 1, 11: 0x90008})
    assert guest.fault() == (13, 0x90008, words[1], 0x90008, 0, 0)
    assert (guest.hart.pc, guest.hart.x(10), guest.machine.icount) == (TEXT + 4, 2, 2)


AMOS = {
    "amoswap": (0x08000000, lambda old, new, bits: new),
    "amoadd": (0x00000000, lambda old, new, bits: old + new),
    "amoxor": (0x20000000, lambda old, new, bits: old ^ new),
    "amoand": (0x60000000, lambda old, new, bits: old & new),
    "amoor": (0x40000000, lambda old, new, bits: old | new),
    "amomin": (0x80000000, lambda old, new, bits: min(signed(old, bits), signed(new, bits))),
    "amomax": (0xA0000000, lambda old, new, bits: max(signed(old, bits), signed(new, bits))),
    "amominu": (0xC0000000, lambda old, new, bits: min(old, new)),
    "amomaxu": (0xE0000000, lambda old, new, bits: max(old, new)),
}
AMO_OPCODES = {8: 0x002F, 16: 0x102F, 32: 0x202F, 64: 0x302F}  # the first two are Zabha's
values = st.one_of(
    st.sampled_from([0, 1, 0xFFFFFFFF, MASK]),
    st.sampled_from([2 ** (bits - 1) - d for bits in AMO_OPCODES for d in (0, 1)]),
    st.integers(0, MASK),
)


@pytest.mark.parametrize("bits", AMO_OPCODES)
@pytest.mark.parametrize("name", AMOS)
@given(old=values, new=values)
@settings(max_examples=30, deadline=None)
def test_amo(name: str, bits: int, old: int, new: int) -> None:
    word, formula = AMOS[name]
    word |= AMO_OPCODES[bits]
    limit = 2**bits - 1
    guest = Guest([r_type(word, 10, 11, 12), ECALL], x={11: DATA + 8, 12: new})
    guest.space.write(DATA, b"\xee" * 24)
    guest.space.write(DATA + 8, (old & limit).to_bytes(bits // 8, "little"))
    guest.run_to_ecall()
    assert guest.hart.x(10) == sext(old, bits)
    result = formula(old & limit, new & limit, bits) & limit
    padding = b"\xee" * (16 - bits // 8)
    assert guest.space.read(DATA + 8, 16) == result.to_bytes(bits // 8, "little") + padding


def test_amo_may_overwrite_its_own_operands() -> None:
    guest = Guest([r_type(0x0000302F, 11, 11, 11), ECALL], x={11: DATA})
    guest.space.write(DATA, (5).to_bytes(8, "little"))
    guest.run_to_ecall()
    assert (guest.hart.x(11), guest.word(DATA)) == (5, DATA + 5)


LR_W, LR_D = r_type(0x1000202F, 10, 11), r_type(0x1000302F, 10, 11)
SC_W, SC_D = r_type(0x1800202F, 13, 11, 12), r_type(0x1800302F, 13, 11, 12)


@pytest.mark.parametrize(
    ("word", "cause"),
    [(LR_W, 5), (LR_D, 5), (SC_W, 7), (SC_D, 7), (0x00C5A52F, 7), (0x00C5B52F, 7)],
)
def test_misaligned_atomics_are_access_faults(word: int, cause: int) -> None:
    assert Guest([word], x={11: DATA + 2}).fault() == (cause, DATA + 2, word, DATA + 2, 0, 0)
    page_fault = 13 if cause == 5 else 15
    assert Guest([word], x={11: 0x90002}).fault()[:2] == (page_fault, 0x90002)


def test_store_conditional() -> None:
    guest = Guest([LR_W, SC_W, SC_W, ECALL], x={11: DATA + 4, 12: 9})
    guest.space.write(DATA + 4, b"\xff\xff\xff\xff\x07")
    guest.run_to_ecall()
    assert (guest.hart.x(10), guest.hart.x(13)) == (MASK, 1)  # the second sc has no reservation
    assert guest.space.read(DATA + 4, 5) == b"\x09\0\0\0\x07"


@pytest.mark.parametrize(
    "between",
    [
        [s_type(0x3023, 11, 14)],  # another value at the address
        [0x00858593],  # addi a1, a1, 8: another address
        [r_type(0x1800302F, 15, 16, 12)],  # an sc elsewhere
    ],
)
def test_store_conditional_fails(between: list[int]) -> None:
    guest = Guest([LR_D, *between, SC_D, ECALL], x={11: DATA, 12: 9, 14: 5, 16: DATA + 64})
    assert guest.run_to_ecall().hart.x(13) == 1
    assert guest.word(guest.hart.x(11)) != 9


def test_store_conditional_of_another_size_fails() -> None:
    guest = Guest([LR_D, SC_W, ECALL], x={11: DATA, 12: 9}).run_to_ecall()
    assert guest.hart.x(13) == 1


def test_preemption_keeps_a_reservation_and_the_kernel_can_clear_it() -> None:
    guest = Guest([LR_D, SC_D, ECALL], x={11: DATA, 12: 9})
    guest.run(budget=1)
    assert guest.run_to_ecall().hart.x(13) == 0
    guest = Guest([LR_D, SC_D, ECALL], x={11: DATA, 12: 9})
    guest.run(budget=1)
    guest.hart.clear_reservation()
    assert guest.run_to_ecall().hart.x(13) == 1


def test_another_harts_store_breaks_a_reservation() -> None:
    guest = Guest([LR_D, SC_D, ECALL, s_type(0x3023, 11, 14), ECALL], x={11: DATA, 12: 9, 14: 5})
    other = guest.hart.copy()
    other.pc = TEXT + 12
    guest.run(budget=1)
    assert other.run(guest.space, 10, 2, 1) == _core.STOP_ECALL
    assert guest.run_to_ecall().hart.x(13) == 1
    assert guest.word(DATA) == 5


def test_the_limit_of_frames_stops_with_its_own_cause() -> None:
    guest = Guest(
        [s_type(0x3023, 11, 12), s_type(0x3023, 13, 12)],
        x={11: DATA, 13: DATA + 0x1000},
        max_frames=2,
    )
    assert guest.fault()[:2] == (_core.FAULT_NO_FRAME, DATA + 0x1000)
    assert (guest.hart.pc, guest.machine.frames) == (TEXT + 4, 2)
