"""Zacas and Zabha's amocas, compared with the manual's pseudocode."""

import pytest
from guest import DATA, ECALL, MASK, SS, STACK, TEXT, Guest, R, W, r_type, sext
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.tracer import _core

# bits: word
AMOCAS = {8: 0x2800002F, 16: 0x2800102F, 32: 0x2800202F, 64: 0x2800302F}
AMOCAS_Q = 0x2800402F
RELEASE, ACQUIRE = 1 << 25, 1 << 26
values = st.integers(0, MASK)
PAST = b"\xee" * 16


def run(word: int, old: bytes, x: dict[int, int]) -> Guest:
    guest = Guest([word, ECALL], x={11: DATA + 16, **x})
    guest.space.write(DATA + 16, old + PAST)
    return guest.run_to_ecall()


@pytest.mark.parametrize("bits", AMOCAS)
@given(old=values, swap=values, expected=values, equal=st.booleans(), order=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_amocas(bits: int, old: int, swap: int, expected: int, equal: bool, order: int) -> None:
    """Only the low bits of rd and rs2 are used; rd receives the old value, sign-extended."""
    low, size = 2**bits - 1, bits // 8
    if equal:
        expected = expected & ~low | old & low
    word = r_type(AMOCAS[bits] | order * RELEASE, 10, 11, 12)
    guest = run(word, (old & low).to_bytes(size, "little"), {10: expected, 12: swap})
    assert guest.hart.x(10) == sext(old, bits)
    new = swap if expected & low == old & low else old
    assert guest.space.read(DATA + 16, size + 16) == (new & low).to_bytes(size, "little") + PAST


@given(
    old=st.integers(0, 2**128 - 1),
    swap=st.integers(0, 2**128 - 1),
    flipped=st.none() | st.integers(0, 127),
)
@settings(max_examples=100, deadline=None)
def test_amocas_q_compares_all_128_bits(old: int, swap: int, flipped: int | None) -> None:
    expected = old if flipped is None else old ^ 1 << flipped
    x = {14: expected & MASK, 15: expected >> 64, 12: swap & MASK, 13: swap >> 64}
    guest = run(r_type(AMOCAS_Q, 14, 11, 12), old.to_bytes(16, "little"), x)
    assert guest.hart.x(15) << 64 | guest.hart.x(14) == old
    new = swap if flipped is None else old
    assert guest.space.read(DATA + 16, 32) == new.to_bytes(16, "little") + PAST


@pytest.mark.parametrize(("rd", "rs2"), [(9, 12), (14, 13), (31, 31), (1, 0)])
def test_amocas_q_with_odd_registers_is_reserved(rd: int, rs2: int) -> None:
    word = r_type(AMOCAS_Q, rd, 11, rs2)
    assert Guest([word], x={11: DATA}).fault() == (2, word, word, 0, 0, 0)


@pytest.mark.parametrize("bits", [*AMOCAS, 128])
def test_x0_compares_as_zero_and_stays_zero(bits: int) -> None:
    """When the first register of a pair is x0, both halves read as zero."""
    word = {**AMOCAS, 128: AMOCAS_Q}[bits]
    store = r_type(word, 0, 11, 12)
    # A write to x0 fills its sink, which must not be compared.
    noise = 0xFFF00013  # addi x0, x0, -1
    swap = 0x0102030405060708
    x = {1: MASK, 11: DATA, 12: swap, 13: swap}
    guest = Guest([noise, store, noise, r_type(word, 0, 11, 0), ECALL], x=x).run_to_ecall()
    assert (guest.hart.x(0), guest.hart.x(1)) == (0, MASK)
    wide = (swap << 64 | swap) & (2**bits - 1)
    assert guest.space.read(DATA, bits // 8) == wide.to_bytes(bits // 8, "little")

    guest = Guest([r_type(word, 14, 11, 0), ECALL], x={1: 7, 11: DATA, 14: 5, 15: 0})
    guest.space.write(DATA, bytes([5]) + bytes(15))
    guest.run_to_ecall()
    assert guest.space.read(DATA, 16) == bytes(16)


def test_amocas_q_may_overwrite_its_own_address() -> None:
    guest = Guest([r_type(AMOCAS_Q, 10, 10, 12), ECALL], x={10: DATA, 11: 0, 12: 3, 13: 4})
    guest.space.write(DATA, DATA.to_bytes(8, "little") + bytes(8))
    guest.run_to_ecall()
    assert (guest.hart.x(10), guest.hart.x(11)) == (DATA, 0)
    assert (guest.word(DATA), guest.word(DATA + 8)) == (3, 4)


@pytest.mark.parametrize("bits", [16, 32, 64, 128])
def test_misaligned_ones_are_access_faults(bits: int) -> None:
    word = r_type({**AMOCAS, 128: AMOCAS_Q}[bits], 10, 11, 12)
    at = DATA + bits // 16
    guest = Guest([word], x={10: 1, 11: at})
    assert guest.fault() == (7, at, word, at, 0, 0)
    assert guest.hart.x(10) == 1


@pytest.mark.parametrize("bits", [*AMOCAS, 128])
def test_they_need_write_permission_even_if_they_would_not_store(bits: int) -> None:
    word = r_type({**AMOCAS, 128: AMOCAS_Q}[bits], 10, 11, 12)
    x = {10: 99}  # memory is zero: the comparison fails
    for at, cause in ((TEXT, 15), (0x90000, 15), (STACK, 7)):
        assert Guest([word], x={**x, 11: at}).fault() == (cause, at, word, at, 0, 0)
    guest = Guest([word], x={**x, 11: DATA})
    guest.space.protect(DATA, 0x1000, R)
    assert guest.fault()[:2] == (15, DATA)
    guest = Guest([word], x={**x, 11: DATA})
    guest.space.protect(DATA, 0x1000, R | W | SS)
    assert guest.fault()[:2] == (7, DATA)


def test_the_new_value_breaks_a_reservation() -> None:
    lr, sc = r_type(0x1000302F, 10, 11), r_type(0x1800302F, 13, 11, 12)
    guest = Guest([lr, r_type(AMOCAS[64], 10, 11, 12), sc, ECALL], x={11: DATA, 12: 9})
    guest.run_to_ecall()
    assert (guest.hart.x(13), guest.word(DATA)) == (1, 9)


def test_the_insn_row_has_what_memory_holds_after() -> None:
    words = [r_type(AMOCAS[16], 10, 11, 12), r_type(AMOCAS_Q, 14, 11, 12), ECALL]
    x = {10: 0, 11: DATA, 12: 0xA1234, 13: 1, 14: 5, 15: 6}
    guest = Guest(words, x=x, trace=_core.TRACE_INSN)
    guest.run_to_ecall()
    half, quad, _ = guest.rows("insn")
    columns = ("rd", "rd_value", "mem_addr", "mem_value", "mem_size")
    assert [half[c] for c in columns] == [10, 0, DATA, 0x1234, 2]
    assert [quad[c] for c in columns] == [14, 0x1234, DATA, 0x1234, 16]


@pytest.mark.parametrize("word", [0x1000002F, 0x1800002F, 0x1000102F, 0x1800102F])
def test_there_is_no_lr_or_sc_of_bytes_and_halfwords(word: int) -> None:
    word = r_type(word, 10, 11)
    assert Guest([word], x={11: DATA}).fault()[:2] == (2, word)


@pytest.mark.parametrize("word", [0x0000402F, 0x2800502F, 0x4800002F])
def test_other_sizes_are_reserved(word: int) -> None:
    word = r_type(word, 10, 11, 12)
    assert Guest([word], x={11: DATA}).fault()[:2] == (2, word)
