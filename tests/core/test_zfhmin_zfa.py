"""Zfhmin and Zfa: operands, boxing, rounding modes. tests/core_fp tests the arithmetic."""

import math
import struct

import pytest
from guest import DATA, ECALL, MASK, STACK, Guest, csr, i_type, r_type, s_type, sext
from hypothesis import given, settings
from hypothesis import strategies as st

NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16
BOX_H, BOX_S = MASK - 0xFFFF, MASK - 0xFFFFFFFF
NAN_H, NAN_S, NAN_D = 0x7E00, 0x7FC00000, 0x7FF8000000000000


def single(x: float) -> int:
    return BOX_S | int.from_bytes(struct.pack("<f", x), "little")


def double(x: float) -> int:
    return int.from_bytes(struct.pack("<d", x), "little")


def half(x: float) -> int:
    return BOX_H | int.from_bytes(struct.pack("<e", x), "little")


def run(word: int, f: dict[int, int], x: dict[int, int] | None = None, frm: int = 0) -> Guest:
    guest = Guest([word, ECALL], x=x or {})
    guest.hart.fcsr = frm << 5
    for register, bits in f.items():
        guest.hart.set_f(register, bits)
    return guest.run_to_ecall()


FLH, FSH, FMV_X_H, FMV_H_X = 0x1007, 0x1027, 0xE4000053, 0xF4000053
FCVT_S_H, FCVT_D_H, FCVT_H_S, FCVT_H_D = 0x40200053, 0x42200053, 0x44000053, 0x44100053
halves = st.integers(0, 0xFFFF)


@pytest.mark.parametrize("offset", [0, 1, 0xFFE, 0xFFF])
def test_loads_box_halves_and_stores_take_the_low_bits(offset: int) -> None:
    words = [i_type(FLH, 3, 11, offset % 2048 - 2048), s_type(FSH, 12, 3, -1), ECALL]
    guest = Guest(words, x={11: DATA + offset - offset % 2048 + 2048, 12: DATA + 0x3001})
    guest.space.write(DATA + offset, b"\x34\x92\xee")
    guest.space.write(DATA + 0x3000, b"\xaa" * 4)
    guest.run_to_ecall()
    assert guest.hart.f(3) == BOX_H | 0x9234
    assert guest.space.read(DATA + 0x3000, 4) == b"\x34\x92\xaa\xaa"


def test_half_loads_and_stores_fault_like_others() -> None:
    store, load = s_type(FSH, 11, 3), i_type(FLH, 3, 11)
    assert Guest([store], x={11: STACK}).fault() == (7, STACK, store, STACK, 0, 0)
    assert Guest([load], x={11: 0x90001}).fault() == (13, 0x90001, load, 0x90001, 0, 0)
    assert Guest([load, ECALL], x={11: STACK}).run_to_ecall().hart.f(3) == BOX_H


@given(bits=st.integers(0, MASK))
@settings(max_examples=60, deadline=None)
def test_moves_take_the_raw_bits(bits: int) -> None:
    assert run(r_type(FMV_X_H, 10, 1), {1: bits}).hart.x(10) == sext(bits, 16)
    assert run(r_type(FMV_H_X, 1, 11), {}, {11: bits}).hart.f(1) == BOX_H | bits & 0xFFFF


@given(bits=halves)
@settings(max_examples=200, deadline=None)
def test_widening_is_exact(bits: int) -> None:
    (value,) = struct.unpack("<e", bits.to_bytes(2, "little"))
    to_s, to_d = (run(r_type(word, 3, 1), {1: BOX_H | bits}) for word in (FCVT_S_H, FCVT_D_H))
    nan = math.isnan(value)
    assert to_s.hart.f(3) == (BOX_S | NAN_S if nan else single(value))
    assert to_d.hart.f(3) == (NAN_D if nan else double(value))
    flags = NV if nan and not bits & 0x200 else 0
    assert to_s.hart.fcsr == to_d.hart.fcsr == flags


@given(value=st.floats(width=32) | st.floats(-70000, 70000, width=32))
@settings(max_examples=200, deadline=None)
def test_narrowing_rounds_to_nearest_even(value: float) -> None:
    try:
        expected = half(value)
    except OverflowError:
        expected = half(math.copysign(math.inf, value))
    if math.isnan(value):
        expected = BOX_H | NAN_H
    assert run(r_type(FCVT_H_S, 3, 1), {1: single(value)}).hart.f(3) == expected
    assert run(r_type(FCVT_H_D, 3, 1), {1: double(value)}).hart.f(3) == expected


# 1 + 3/2 ulp of a half in each mode; then the greatest half plus half an ulp, the overflow limit.
@pytest.mark.parametrize(
    ("rm", "tie", "negative", "edge"),
    [
        (0, 0x3C02, 0xBC02, (0x7C00, OF | NX)),
        (1, 0x3C01, 0xBC01, (0x7BFF, NX)),
        (2, 0x3C01, 0xBC02, (0x7BFF, NX)),
        (3, 0x3C02, 0xBC01, (0x7C00, OF | NX)),
        (4, 0x3C02, 0xBC02, (0x7C00, OF | NX)),
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_narrowing_in_each_mode(
    rm: int, tie: int, negative: int, edge: tuple[int, int], dynamic: bool
) -> None:
    for word, of in ((FCVT_H_S, single), (FCVT_H_D, double)):
        word |= (7 if dynamic else rm) << 12
        value = 1 + 3 / 2048
        for x, expected, flags in ((value, tie, NX), (-value, negative, NX), (65520.0, *edge)):
            # A static mode overrides frm.
            guest = run(r_type(word, 3, 1), {1: of(x)}, frm=rm if dynamic else 1)
            assert guest.hart.f(3) == BOX_H | expected
            assert guest.hart.fcsr & 31 == flags


def test_unboxed_halves_are_nan() -> None:
    for bits in (half(1.0) ^ 1 << 16, half(1.0) ^ 1 << 63, single(1.0), 0x3C00):
        if bits >> 16 == MASK >> 16:
            continue
        assert run(r_type(FCVT_S_H, 3, 1), {1: bits}).hart.f(3) == BOX_S | NAN_S
        assert run(r_type(FCVT_D_H, 3, 1), {1: bits}).hart.f(3) == NAN_D
    assert run(r_type(FCVT_H_S, 3, 1), {1: double(1.0)}).hart.f(3) == BOX_H | NAN_H
    assert run(r_type(FCVT_D_H, 3, 1), {1: 0}).hart.fcsr == 0  # the canonical NaN is quiet


@pytest.mark.parametrize("word", [FCVT_S_H, FCVT_D_H, FCVT_H_S, FCVT_H_D])
def test_reserved_rounding_modes_are_illegal(word: int) -> None:
    for rm in (5, 6):
        assert Guest([word | rm << 12]).fault()[:2] == (2, word | rm << 12)
    assert Guest([csr(5, 0, 2, 5), word | 7 << 12]).fault()[:2] == (2, word | 7 << 12)


FLI_S, FLI_D = 0xF0100053, 0xF2100053
FMIN, FMAX = 0x28002053, 0x28003053
FROUND, FROUNDNX = 0x40400053, 0x40500053
FLEQ, FLTQ = 0xA0004053, 0xA0005053
FCVTMOD = 0xC2801053
D = 1 << 25  # the same for doubles

FLI = [-1.0, None, 2.0**-16, 2.0**-15, 2.0**-8, 2.0**-7, 1 / 16, 1 / 8]
FLI += [0.25, 0.3125, 0.375, 0.4375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75]
FLI += [2.0, 2.5, 3.0, 4.0, 8.0, 16.0, 128.0, 256.0, 32768.0, 65536.0, math.inf, math.nan]


@pytest.mark.parametrize("index", range(32))
def test_fli(index: int) -> None:
    value = FLI[index]
    to_s, to_d = (run(r_type(word, 3, index), {}) for word in (FLI_S, FLI_D))
    assert to_s.hart.f(3) == (BOX_S | 1 << 23 if value is None else single(value))
    assert to_d.hart.f(3) == (1 << 52 if value is None else double(value))
    assert to_s.hart.fcsr == to_d.hart.fcsr == 0


SIGNALING_S, SIGNALING_D = BOX_S | 0x7F800001, 0x7FF0000000000001


@pytest.mark.parametrize(
    ("a", "b", "least", "greatest"),
    [
        (1.0, 2.0, 1.0, 2.0),
        (2.0, -1.0, -1.0, 2.0),
        (0.0, -0.0, -0.0, 0.0),
        (-0.0, 0.0, -0.0, 0.0),
        (-math.inf, math.inf, -math.inf, math.inf),
        (math.nan, 1.0, math.nan, math.nan),
        (1.0, -math.nan, math.nan, math.nan),
    ],
)
def test_fminm_and_fmaxm_give_nan_for_nan(
    a: float, b: float, least: float, greatest: float
) -> None:
    for word, expected in ((FMIN, least), (FMAX, greatest)):
        for of, fmt in ((single, 0), (double, D)):
            guest = run(r_type(word | fmt, 3, 1, 2), {1: of(a), 2: of(b)})
            assert (guest.hart.f(3), guest.hart.fcsr) == (of(expected), 0)
        guest = run(r_type(word, 3, 1, 2), {1: single(a), 2: SIGNALING_S})
        assert (guest.hart.f(3), guest.hart.fcsr) == (single(math.nan), NV)
        guest = run(r_type(word | D, 3, 1, 2), {1: SIGNALING_D, 2: double(b)})
        assert (guest.hart.f(3), guest.hart.fcsr) == (double(math.nan), NV)


def nearest(x: float, away: bool) -> float:
    below = math.floor(x)
    if x - below != 0.5:
        return float(round(x))
    return float(below + (x > 0 if away else below % 2))


ROUND = [
    lambda x: nearest(x, False),
    lambda x: float(math.trunc(x)),
    lambda x: float(math.floor(x)),
    lambda x: float(math.ceil(x)),
    lambda x: nearest(x, True),
]


@pytest.mark.parametrize("rm", range(5))
@given(
    x=st.integers(-40, 40).map(lambda n: n / 8)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.floats(-(2.0**24), 2.0**24, width=32)
)
@settings(max_examples=60, deadline=None)
def test_fround_in_each_mode(rm: int, x: float) -> None:
    expected = math.copysign(ROUND[rm](x), x)
    for of, fmt in ((single, 0), (double, D)):
        for word, flags in ((FROUND, 0), (FROUNDNX, NX if expected != x else 0)):
            static = run(r_type(word | fmt | rm << 12, 3, 1), {1: of(x)})
            assert (static.hart.f(3), static.hart.fcsr) == (of(expected), flags)
            dynamic = run(r_type(word | fmt | 7 << 12, 3, 1), {1: of(x)}, frm=rm)
            assert (dynamic.hart.f(3), dynamic.hart.fcsr) == (of(expected), flags | rm << 5)


@pytest.mark.parametrize("word", [FROUND, FROUNDNX])
def test_fround_of_what_is_no_number(word: int) -> None:
    for bits, expected, flags in (
        (SIGNALING_S, single(math.nan), NV),
        (single(-math.nan), single(math.nan), 0),
        (single(-math.inf), single(-math.inf), 0),
        (double(1.5), single(math.nan), 0),  # not boxed
    ):
        guest = run(r_type(word, 3, 1), {1: bits})
        assert (guest.hart.f(3), guest.hart.fcsr) == (expected, flags)
    for rm in (5, 6):
        assert Guest([word | D | rm << 12]).fault()[:2] == (2, word | D | rm << 12)


@given(
    x=st.floats()
    | st.integers(-(2**40), 2**40).map(lambda n: n / 4)
    | st.tuples(st.integers(-(2**53), 2**53), st.integers(-60, 90)).map(lambda p: math.ldexp(*p))
)
@settings(max_examples=300, deadline=None)
def test_fcvtmod_is_modular(x: float) -> None:
    guest = run(r_type(FCVTMOD, 10, 1), {1: double(x)})
    whole = math.trunc(x) if math.isfinite(x) else None
    assert guest.hart.x(10) == (0 if whole is None else sext(whole, 32))
    if whole is None or not -(2**31) <= whole < 2**31:
        assert guest.hart.fcsr == NV
    else:
        assert guest.hart.fcsr == (NX if whole != x else 0)


def test_fcvtmod_has_one_rounding_mode() -> None:
    for rm in (0, 2, 3, 4, 5, 6, 7):
        word = FCVTMOD & ~0x7000 | rm << 12
        assert Guest([word]).fault()[:2] == (2, word)


@given(a=st.floats(width=32), b=st.floats(width=32), same=st.booleans())
@settings(max_examples=100, deadline=None)
def test_quiet_comparisons(a: float, b: float, same: bool) -> None:
    b = a if same else b
    for word, expected in ((FLEQ, a <= b), (FLTQ, a < b)):
        for of, fmt in ((single, 0), (double, D)):
            guest = run(r_type(word | fmt, 10, 1, 2), {1: of(a), 2: of(b)})
            assert (guest.hart.x(10), guest.hart.fcsr) == (expected, 0)
        guest = run(r_type(word | D, 10, 1, 2), {1: SIGNALING_D, 2: double(b)})
        assert (guest.hart.x(10), guest.hart.fcsr) == (0, NV)


@pytest.mark.parametrize(
    "word",
    [
        0xF4100053,  # fli.h
        0x2C002053,  # fminm.h
        0x44400053,  # fround.h
        0xA4004053,  # fleq.h
        0x04000053,  # fadd.h
        0xE2100053,  # fmvh.x.d
        0xB2000053,  # fmvp.d.x
    ],
)
def test_what_belongs_to_zfh_or_rv32_is_illegal(word: int) -> None:
    assert Guest([word]).fault()[:2] == (2, word)
