"""Vector integer, fixed-point and mask instructions, compared with the manual's formulas."""

import random
from collections.abc import Callable

import pytest
from guest import signed
from vector_guest import LMULS, SETTINGS, WIDTHS, State, execute, is_illegal, op_v, registers, vlmax

VV, VI, MVV, VX, MVX = 0, 3, 2, 4, 6
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF)


def random_registers(rng: random.Random) -> bytes:
    """Random values, mixed with edge values of every width."""
    data = b""
    while len(data) < 512:
        word = rng.choice([0, 2**64 - 1, 1 << 63, (1 << 63) - 1, 1 << 31, 0x7FFF8000, 0x80, 1])
        data += (word if rng.random() < 0.4 else rng.getrandbits(64)).to_bytes(8, "little")
    return data


def s(value: int, width: int) -> int:
    return signed(value, width)


def trunc(a: int, b: int) -> int:
    """Division towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def roundoff(value: int, d: int, vxrm: int) -> int:
    """The manual's roundoff_signed and roundoff_unsigned."""
    if d == 0:
        return value
    low, lsb = value & (1 << d) - 1, value >> d & 1
    guard = value >> (d - 1) & 1
    rest = low & (1 << (d - 1)) - 1
    r = [guard, guard & (rest != 0 or lsb), 0, (not lsb) & (low != 0)][vxrm]
    return (value >> d) + int(r)


def clip(value: int, low: int, high: int) -> tuple[int, bool]:
    clipped = max(low, min(high, value))
    return clipped, clipped != value


def clip_s(value: int, w: int) -> tuple[int, bool]:
    return clip(value, -(1 << (w - 1)), (1 << (w - 1)) - 1)


def clip_u(value: int, w: int) -> tuple[int, bool]:
    return clip(value, 0, (1 << w) - 1)


# name: (funct6, funct3s, f(vs2, vs1, vd, SEW)); all of one width.
SINGLE: dict[str, tuple[int, tuple[int, ...], Callable[[int, int, int, int], int]]] = {
    "vadd": (0x00, (VV, VX, VI), lambda a, b, d, w: a + b),
    "vsub": (0x02, (VV, VX), lambda a, b, d, w: a - b),
    "vrsub": (0x03, (VX, VI), lambda a, b, d, w: b - a),
    "vminu": (0x04, (VV, VX), lambda a, b, d, w: min(a, b)),
    "vmin": (0x05, (VV, VX), lambda a, b, d, w: min(s(a, w), s(b, w))),
    "vmaxu": (0x06, (VV, VX), lambda a, b, d, w: max(a, b)),
    "vmax": (0x07, (VV, VX), lambda a, b, d, w: max(s(a, w), s(b, w))),
    "vand": (0x09, (VV, VX, VI), lambda a, b, d, w: a & b),
    "vor": (0x0A, (VV, VX, VI), lambda a, b, d, w: a | b),
    "vxor": (0x0B, (VV, VX, VI), lambda a, b, d, w: a ^ b),
    "vsll": (0x25, (VV, VX), lambda a, b, d, w: a << b % w),
    "vsrl": (0x28, (VV, VX), lambda a, b, d, w: a >> b % w),
    "vsra": (0x29, (VV, VX), lambda a, b, d, w: s(a, w) >> b % w),
    "vdivu": (0x20, (MVV, MVX), lambda a, b, d, w: a // b if b else -1),
    "vdiv": (0x21, (MVV, MVX), lambda a, b, d, w: trunc(s(a, w), s(b, w)) if b else -1),
    "vremu": (0x22, (MVV, MVX), lambda a, b, d, w: a % b if b else a),
    "vrem": (
        0x23,
        (MVV, MVX),
        lambda a, b, d, w: s(a, w) - s(b, w) * trunc(s(a, w), s(b, w)) if b else a,
    ),
    "vmulhu": (0x24, (MVV, MVX), lambda a, b, d, w: a * b >> w),
    "vmul": (0x25, (MVV, MVX), lambda a, b, d, w: a * b),
    "vmulhsu": (0x26, (MVV, MVX), lambda a, b, d, w: s(a, w) * b >> w),
    "vmulh": (0x27, (MVV, MVX), lambda a, b, d, w: s(a, w) * s(b, w) >> w),
    "vmadd": (0x29, (MVV, MVX), lambda a, b, d, w: b * d + a),
    "vnmsub": (0x2B, (MVV, MVX), lambda a, b, d, w: a - b * d),
    "vmacc": (0x2D, (MVV, MVX), lambda a, b, d, w: b * a + d),
    "vnmsac": (0x2F, (MVV, MVX), lambda a, b, d, w: d - b * a),
    "vandn": (0x01, (VV, VX), lambda a, b, d, w: a & ~b),
    "vrol": (0x15, (VV, VX), lambda a, b, d, w: a << b % w | a >> (-b) % w),
    "vror": (0x14, (VV, VX), lambda a, b, d, w: a >> b % w | a << (-b) % w),
}

# The same, but (result, saturated) of (vs2, vs1, SEW, vxrm).
FIXED: dict[str, tuple[int, tuple[int, ...], Callable[[int, int, int, int], tuple[int, bool]]]] = {
    "vsaddu": (0x20, (VV, VX), lambda a, b, w, r: clip_u(a + b, w)),
    "vsadd": (0x21, (VV, VX, VI), lambda a, b, w, r: clip_s(s(a, w) + s(b, w), w)),
    "vssubu": (0x22, (VV, VX), lambda a, b, w, r: clip_u(a - b, w)),
    "vssub": (0x23, (VV, VX), lambda a, b, w, r: clip_s(s(a, w) - s(b, w), w)),
    "vaaddu": (0x08, (MVV, MVX), lambda a, b, w, r: (roundoff(a + b, 1, r), False)),
    "vaadd": (0x09, (MVV, MVX), lambda a, b, w, r: (roundoff(s(a, w) + s(b, w), 1, r), False)),
    "vasubu": (0x0A, (MVV, MVX), lambda a, b, w, r: (roundoff(a - b, 1, r), False)),
    "vasub": (0x0B, (MVV, MVX), lambda a, b, w, r: (roundoff(s(a, w) - s(b, w), 1, r), False)),
    "vsmul": (
        0x27,
        (VV, VX),
        lambda a, b, w, r: clip_s(roundoff(s(a, w) * s(b, w), w - 1, r), w),
    ),
    "vssrl": (0x2A, (VV, VX), lambda a, b, w, r: (roundoff(a, b % w, r), False)),
    "vssra": (0x2B, (VV, VX), lambda a, b, w, r: (roundoff(s(a, w), b % w, r), False)),
}

# vs2, vs1 of SEW (of 2*SEW: vs2 of .w), vd of 2*SEW.
WIDEN: dict[str, tuple[int, tuple[int, ...], bool, Callable[[int, int, int, int], int]]] = {
    "vwaddu": (0x30, (MVV, MVX), False, lambda a, b, d, w: a + b),
    "vwadd": (0x31, (MVV, MVX), False, lambda a, b, d, w: s(a, w) + s(b, w)),
    "vwsubu": (0x32, (MVV, MVX), False, lambda a, b, d, w: a - b),
    "vwsub": (0x33, (MVV, MVX), False, lambda a, b, d, w: s(a, w) - s(b, w)),
    "vwaddu.w": (0x34, (MVV, MVX), True, lambda a, b, d, w: a + b),
    "vwadd.w": (0x35, (MVV, MVX), True, lambda a, b, d, w: a + s(b, w)),
    "vwsubu.w": (0x36, (MVV, MVX), True, lambda a, b, d, w: a - b),
    "vwsub.w": (0x37, (MVV, MVX), True, lambda a, b, d, w: a - s(b, w)),
    "vwmulu": (0x38, (MVV, MVX), False, lambda a, b, d, w: a * b),
    "vwmulsu": (0x3A, (MVV, MVX), False, lambda a, b, d, w: s(a, w) * b),
    "vwmul": (0x3B, (MVV, MVX), False, lambda a, b, d, w: s(a, w) * s(b, w)),
    "vwmaccu": (0x3C, (MVV, MVX), False, lambda a, b, d, w: a * b + d),
    "vwmacc": (0x3D, (MVV, MVX), False, lambda a, b, d, w: s(a, w) * s(b, w) + d),
    "vwmaccus": (0x3E, (MVX,), False, lambda a, b, d, w: b * s(a, w) + d),
    "vwmaccsu": (0x3F, (MVV, MVX), False, lambda a, b, d, w: s(b, w) * a + d),
    "vwsll": (0x35, (VV, VX), False, lambda a, b, d, w: a << b % (2 * w)),
}

# vs2 of 2*SEW; (result, saturated) of (vs2, vs1, SEW, vxrm).
NARROW: dict[str, tuple[int, Callable[[int, int, int, int], tuple[int, bool]]]] = {
    "vnsrl": (0x2C, lambda a, b, w, r: (a >> b % (2 * w), False)),
    "vnsra": (0x2D, lambda a, b, w, r: (s(a, 2 * w) >> b % (2 * w), False)),
    "vnclipu": (0x2E, lambda a, b, w, r: clip_u(roundoff(a, b % (2 * w), r), w)),
    "vnclip": (0x2F, lambda a, b, w, r: clip_s(roundoff(s(a, 2 * w), b % (2 * w), r), w)),
}

COMPARE: dict[str, tuple[int, tuple[int, ...], Callable[[int, int, int], bool]]] = {
    "vmseq": (0x18, (VV, VX, VI), lambda a, b, w: a == b),
    "vmsne": (0x19, (VV, VX, VI), lambda a, b, w: a != b),
    "vmsltu": (0x1A, (VV, VX), lambda a, b, w: a < b),
    "vmslt": (0x1B, (VV, VX), lambda a, b, w: s(a, w) < s(b, w)),
    "vmsleu": (0x1C, (VV, VX, VI), lambda a, b, w: a <= b),
    "vmsle": (0x1D, (VV, VX, VI), lambda a, b, w: s(a, w) <= s(b, w)),
    "vmsgtu": (0x1E, (VX, VI), lambda a, b, w: a > b),
    "vmsgt": (0x1F, (VX, VI), lambda a, b, w: s(a, w) > s(b, w)),
}

REDUCE: dict[str, tuple[int, Callable[[int, int, int], int]]] = {
    "vredsum": (0x00, lambda a, b, w: a + b),
    "vredand": (0x01, lambda a, b, w: a & b),
    "vredor": (0x02, lambda a, b, w: a | b),
    "vredxor": (0x03, lambda a, b, w: a ^ b),
    "vredminu": (0x04, lambda a, b, w: min(a, b)),
    "vredmin": (0x05, lambda a, b, w: min(s(a, w), s(b, w))),
    "vredmaxu": (0x06, lambda a, b, w: max(a, b)),
    "vredmax": (0x07, lambda a, b, w: max(s(a, w), s(b, w))),
}

VD, VS2, VS1, RS1 = 8, 16, 24, 11


def a_state(rng: random.Random, sew: int, lmul: int, vstart: bool = True) -> State:
    length = vlmax(sew, lmul)
    return State(
        random_registers(rng),
        sew,
        lmul,
        vl=rng.choice([0, 1, length, length, rng.randrange(length + 1)]),
        vstart=rng.choice([0, 0, 0, rng.randrange(length)]) if vstart else 0,
        vcsr=rng.randrange(4) << 1,
        x={RS1: rng.choice([rng.getrandbits(64), rng.randrange(300), 2**64 - 1])},
    )


def second(state: State, rng: random.Random, funct3: int) -> tuple[int, Callable[[int], int]]:
    """The field of the second operand, and its element i."""
    if funct3 in (VV, MVV):
        elements = state.elements(VS1)
        return VS1, lambda i: elements[i]
    assert state.x is not None
    field = rng.randrange(32) if funct3 == VI else RS1
    value = (signed(field, 5) if funct3 == VI else state.x[RS1]) & (1 << state.sew) - 1
    return field, lambda i: value


def each(
    seeds: int, settings: list[tuple[int, int]], seed: str
) -> list[tuple[random.Random, int, int]]:
    rng = random.Random(seed)
    return [(rng, sew, lmul) for sew, lmul in settings for _ in range(seeds)]


@pytest.mark.parametrize("name", SINGLE)
def test_one_width(name: str) -> None:
    funct6, funct3s, formula = SINGLE[name]
    for rng, sew, lmul in each(4, SETTINGS, name):
        state, masked, funct3 = a_state(rng, sew, lmul), rng.random() < 0.5, rng.choice(funct3s)
        field, b = second(state, rng, funct3)
        a, d = state.elements(VS2), state.elements(VD)
        after = [(i, formula(a[i], b(i), d[i], sew)) for i in state.active(masked)]
        guest = execute(state, op_v(funct6, funct3, VD, VS2, field, masked))
        assert registers(guest) == state.with_elements(VD, sew, after), (state, funct3)


@pytest.mark.parametrize("name", FIXED)
def test_fixed_point(name: str) -> None:
    funct6, funct3s, formula = FIXED[name]
    for rng, sew, lmul in each(6, SETTINGS, name):
        state, masked, funct3 = a_state(rng, sew, lmul), rng.random() < 0.5, rng.choice(funct3s)
        field, b = second(state, rng, funct3)
        a, vxrm = state.elements(VS2), state.vcsr >> 1
        after = [(i, formula(a[i], b(i), sew, vxrm)) for i in state.active(masked)]
        guest = execute(state, op_v(funct6, funct3, VD, VS2, field, masked))
        assert registers(guest) == state.with_elements(VD, sew, [(i, v) for i, (v, _) in after])
        assert guest.hart.v_csrs()[3] == state.vcsr | any(saturated for _, (_, saturated) in after)


NARROW_SETTINGS = [(sew, lmul) for sew, lmul in SETTINGS if sew < 64 and lmul < 3]


@pytest.mark.parametrize("name", WIDEN)
def test_to_twice_the_width(name: str) -> None:
    funct6, funct3s, wide, formula = WIDEN[name]
    for rng, sew, lmul in each(5, NARROW_SETTINGS, name):
        state, masked, funct3 = a_state(rng, sew, lmul), rng.random() < 0.5, rng.choice(funct3s)
        field, b = second(state, rng, funct3)
        a, d = state.elements(VS2, 2 * sew if wide else sew), state.elements(VD, 2 * sew)
        after = [(i, formula(a[i], b(i), d[i], sew)) for i in state.active(masked)]
        guest = execute(state, op_v(funct6, funct3, VD, VS2, field, masked))
        assert registers(guest) == state.with_elements(VD, 2 * sew, after), (state, funct3)


@pytest.mark.parametrize("name", NARROW)
def test_from_twice_the_width(name: str) -> None:
    funct6, formula = NARROW[name]
    for rng, sew, lmul in each(6, NARROW_SETTINGS, name):
        state, masked, funct3 = a_state(rng, sew, lmul), rng.random() < 0.5, rng.choice((VV, VX))
        field, b = second(state, rng, funct3)
        a, vxrm = state.elements(VS2, 2 * sew), state.vcsr >> 1
        after = [(i, formula(a[i], b(i), sew, vxrm)) for i in state.active(masked)]
        guest = execute(state, op_v(funct6, funct3, VD, VS2, field, masked))
        assert registers(guest) == state.with_elements(VD, sew, [(i, v) for i, (v, _) in after])
        assert guest.hart.v_csrs()[3] == state.vcsr | any(saturated for _, (_, saturated) in after)


@pytest.mark.parametrize("name", COMPARE)
def test_comparisons_write_masks(name: str) -> None:
    funct6, funct3s, formula = COMPARE[name]
    for rng, sew, lmul in each(4, SETTINGS, name):
        state, masked, funct3 = a_state(rng, sew, lmul), rng.random() < 0.5, rng.choice(funct3s)
        field, b = second(state, rng, funct3)
        a, vd = state.elements(VS2), rng.choice([0, 5])
        after = [(i, formula(a[i], b(i), sew)) for i in state.active(masked)]
        guest = execute(state, op_v(funct6, funct3, vd, VS2, field, masked))
        assert registers(guest) == state.with_bits(vd, after), (state, funct3)


@pytest.mark.parametrize("carry_in", [True, False])
def test_carries(carry_in: bool) -> None:
    for rng, sew, lmul in each(8, SETTINGS, f"carries {carry_in}"):
        state = a_state(rng, sew, lmul)
        a, b = state.elements(VS2), state.elements(VS1)
        body = state.active(False)
        carry = [state.bit(0, i) if carry_in else False for i in range(128)]
        out = [(i, a[i] + b[i] + carry[i] >= 1 << sew) for i in body]
        guest = execute(state, op_v(0x11, VV, 3, VS2, VS1, carry_in))  # vmadc
        assert registers(guest) == state.with_bits(3, out)
        out = [(i, a[i] - b[i] - carry[i] < 0) for i in body]
        guest = execute(state, op_v(0x13, VV, 3, VS2, VS1, carry_in))  # vmsbc
        assert registers(guest) == state.with_bits(3, out)
        if carry_in:
            sums = [(i, a[i] + b[i] + carry[i]) for i in body]
            guest = execute(state, op_v(0x10, VV, VD, VS2, VS1, True))  # vadc
            assert registers(guest) == state.with_elements(VD, sew, sums)
            sums = [(i, a[i] - b[i] - carry[i]) for i in body]
            guest = execute(state, op_v(0x12, VV, VD, VS2, VS1, True))  # vsbc
            assert registers(guest) == state.with_elements(VD, sew, sums)
            merged = [(i, b[i] if carry[i] else a[i]) for i in body]
            guest = execute(state, op_v(0x17, VV, VD, VS2, VS1, True))  # vmerge
            assert registers(guest) == state.with_elements(VD, sew, merged)


@pytest.mark.parametrize("name", REDUCE)
def test_reductions(name: str) -> None:
    funct6, formula = REDUCE[name]
    for rng, sew, lmul in each(4, SETTINGS, name):
        state, masked = a_state(rng, sew, lmul, vstart=False), rng.random() < 0.5
        a, total = state.elements(VS2), state.elements(5)[0]
        for i in state.active(masked):
            total = formula(total, a[i], sew) & (1 << sew) - 1
        guest = execute(state, op_v(funct6, MVV, 3, VS2, 5, masked))
        written = [(0, total)] if state.length else []
        assert registers(guest) == state.with_elements(3, sew, written)
        state.vstart = 1
        assert is_illegal(state, op_v(funct6, MVV, 3, VS2, 5, masked))


def test_extensions() -> None:
    for rng, sew, lmul in each(4, SETTINGS, "extensions"):
        for field, factor, is_signed in (
            (2, 8, 0),
            (3, 8, 1),
            (4, 4, 0),
            (5, 4, 1),
            (6, 2, 0),
            (7, 2, 1),
        ):
            state, masked = a_state(rng, sew, lmul), rng.random() < 0.5
            word, narrow = op_v(0x12, MVV, VD, VS2, field, masked), sew // factor
            if narrow < 8 or lmul - factor.bit_length() + 1 < -3:
                assert is_illegal(state, word)
                continue
            a = state.elements(VS2, narrow)
            after = [(i, s(a[i], narrow) if is_signed else a[i]) for i in state.active(masked)]
            assert registers(execute(state, word)) == state.with_elements(VD, sew, after)


# Zvbb: field of vs1: f(element, SEW)
BITS: dict[int, Callable[[int, int], int]] = {
    8: lambda a, w: sum((a >> i & 1) << (i ^ 7) for i in range(w)),
    9: lambda a, w: int.from_bytes(a.to_bytes(w // 8, "little"), "big"),
    10: lambda a, w: sum((a >> i & 1) << (w - 1 - i) for i in range(w)),
    12: lambda a, w: w - a.bit_length(),
    13: lambda a, w: (a & -a).bit_length() - 1 if a else w,
    14: lambda a, w: a.bit_count(),
}


@pytest.mark.parametrize("field", BITS)
def test_bit_manipulation(field: int) -> None:
    for rng, sew, lmul in each(3, SETTINGS, f"bits {field}"):
        state, masked = a_state(rng, sew, lmul), rng.random() < 0.5
        a = state.elements(VS2)
        after = [(i, BITS[field](a[i], sew)) for i in state.active(masked)]
        guest = execute(state, op_v(0x12, MVV, VD, VS2, field, masked))
        assert registers(guest) == state.with_elements(VD, sew, after)


def test_ror_by_six_bits() -> None:
    state = State(bytes(range(256)) * 2, 64, 0)
    a = state.elements(VS2)
    guest = execute(state, op_v(0x14 | 1, VI, VD, VS2, 1))  # bit 26: 33
    after = [(i, a[i] >> 33 | a[i] << 31) for i in range(2)]
    assert registers(guest) == state.with_elements(VD, 64, after)


LOGIC: dict[int, Callable[[bool, bool], bool]] = {
    0x18: lambda a, b: a and not b,
    0x19: lambda a, b: a and b,
    0x1A: lambda a, b: a or b,
    0x1B: lambda a, b: a != b,
    0x1C: lambda a, b: a or not b,
    0x1D: lambda a, b: not (a and b),
    0x1E: lambda a, b: not (a or b),
    0x1F: lambda a, b: a == b,
}


def test_mask_logic() -> None:
    for rng, sew, lmul in each(4, [(8, lmul) for lmul in LMULS], "logic"):
        for funct6, formula in LOGIC.items():
            state = a_state(rng, sew, lmul)
            after = [(i, formula(state.bit(4, i), state.bit(5, i))) for i in state.active(False)]
            guest = execute(state, op_v(funct6, MVV, 3, 4, 5))
            assert registers(guest) == state.with_bits(3, after)
            assert is_illegal(state, op_v(funct6, MVV, 3, 4, 5, masked=True))


def test_first_bits_and_counts() -> None:
    for rng, sew, lmul in each(20, [(8, 3), (8, 0), (16, 1), (64, 3), (8, -3)], "first"):
        state, masked = a_state(rng, sew, lmul, vstart=False), rng.random() < 0.5
        state.v = (
            state.v[:64]
            + rng.choice([bytes(16), b"\x40" * 16, b"\0" * 15 + b"\x80"])
            + state.v[80:]
        )
        active = state.active(masked)
        bits = [i for i in active if state.bit(4, i)]
        first = bits[0] if bits else 1 << 64
        guest = execute(state, op_v(0x10, MVV, 10, 4, 16, masked))
        assert guest.hart.x(10) == len(bits)
        guest = execute(state, op_v(0x10, MVV, 10, 4, 17, masked))
        assert guest.hart.x(10) == (first if bits else 2**64 - 1)
        for field, orders in ((1, (-1,)), (2, (0,)), (3, (-1, 0))):
            guest = execute(state, op_v(0x14, MVV, 3, 4, field, masked))
            assert registers(guest) == state.with_bits(
                3, [(i, (i > first) - (i < first) in orders) for i in active]
            )
            assert is_illegal(state, op_v(0x14, MVV, 4, 4, field, masked))
        iota = [(i, sum(1 for j in bits if j < i)) for i in active]
        guest = execute(state, op_v(0x14, MVV, 8, 4, 16, masked))
        assert registers(guest) == state.with_elements(8, sew, iota)
        guest = execute(state, op_v(0x14, MVV, 8, 0, 17, masked))
        assert registers(guest) == state.with_elements(8, sew, [(i, i) for i in active])


@pytest.mark.parametrize("sew", WIDTHS)
def test_widening_reductions(sew: int) -> None:
    rng = random.Random(sew)
    for funct6, is_signed in ((0x30, False), (0x31, True)):
        state = a_state(rng, sew, 1, vstart=False)
        word = op_v(funct6, VV, 3, VS2, 5)
        if sew == 64:
            assert is_illegal(state, word)
            continue
        state.vl = 1 << 20
        a = state.elements(VS2)[: state.length]
        total = state.elements(5, 2 * sew)[0] + sum(s(x, sew) if is_signed else x for x in a)
        assert registers(execute(state, word)) == state.with_elements(3, 2 * sew, [(0, total)])
