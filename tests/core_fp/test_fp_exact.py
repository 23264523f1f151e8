"""Every operation, mode and flag, compared with exact rational arithmetic."""

import itertools
import struct

import pytest
from fp_build import Library
from fp_oracle import DOUBLE, HALF, MODES, NX, OPERATIONS, RNE, SINGLE, Format
from hypothesis import given, settings
from hypothesis import strategies as st

INTEGERS = sorted(
    {
        (sign * (2**k + d)) % 2**64
        for k in (0, 1, 7, 23, 24, 25, 31, 32, 52, 53, 54, 62, 63, 64)
        for d in (-3, -2, -1, 0, 1, 2, 3)
        for sign in (1, -1)
    }
    | {2**63 - 2**9, 2**64 - 2**10, 2**64 - 2**10 - 1, 2**24 + 2**25 + 1, 2**40 + 2**16}
)


def bits(f: Format, x: float) -> int:
    code = {32: "fI", 64: "dQ"}[f.width]
    return struct.unpack("<" + code[1], struct.pack("<" + code[0], x))[0]


def edges(f: Format, operands: int) -> list[int]:
    """Boundary values of both signs; fewer for more operands."""
    ulp = 2.0**-f.fraction_bits
    least_normal = 1 << f.fraction_bits
    sizes = [
        0,
        1,
        least_normal - 1,
        least_normal,
        f.infinity - 1,
        f.infinity,
        f.infinity + 1,
        f.nan,
    ]
    sizes += [bits(f, x) for x in (1.0, 1 + ulp)]
    if operands < 3:
        sizes += [3, least_normal + 1, least_normal * 2 - 1, f.infinity - least_normal, f.sign - 1]
        sizes += [bits(f, x) for x in (0.5, 1 - ulp / 2, 1 + 3 * ulp, 1.5, 3.0, 1 / 3)]
        sizes += [bits(f, 2.0**f.precision), bits(f, 2.0 ** (-f.bias // 2)), least_normal // 2]
        sizes += [bits(f, 1.5 * 2.0 ** (f.bias - f.fraction_bits))]  # 3/2 ulp of the greatest
    if operands < 2:
        sizes += [bits(f, x) for x in (0.25, 0.5 - ulp / 4, 0.5 + ulp / 2, 0.75, 1.75, 2.0, 2.5)]
        sizes += [bits(f, 2.0**k) + d for k in (23, 31, 32, 52, 63, 64, 84) for d in (-2, -1, 0, 1)]
        sizes += [bits(f, 2.0**k + h) for k in (1, 8, 22, 31, 32) for h in (-1, -0.5, 0.5)]
        below = 1 << (f.fraction_bits - HALF.fraction_bits)  # a half's ulp
        sizes += [bits(f, 65504.0) + d for d in (0, below // 2 - 1, below // 2, below // 2 + 1)]
        sizes += [bits(f, 2.0**k) + d for k in (-14, -24, -25) for d in (-below // 2, -1, 0, 1)]
        sizes += [bits(f, 2.0**-14 * (1 - 2.0**-12)) + d for d in (-1, 0, 1)]
        if f is DOUBLE:  # where narrowing overflows, ties and underflows
            greatest = bits(f, 3.4028234663852886e38)
            sizes += [greatest + d for d in (0, 1, 2**28 - 1, 2**28, 2**28 + 1)]
            sizes += [bits(f, 2.0**k) + d for k in (-126, -149, -150) for d in (-(2**28), -1, 0, 1)]
            sizes += [bits(f, 2.0**-126 * (1 - 2.0**-25)) + d for d in (-1, 0, 1)]
    return sorted({x | s for x in sizes for s in (0, f.sign)})


def domain(width: int, operands: int) -> list[int]:
    small = {0: INTEGERS, 1: [0, 1], 16: list(range(2**16))}
    return small.get(width) or edges({32: SINGLE, 64: DOUBLE}[width], operands)


@pytest.fixture(scope="session")
def libraries(soft: Library, fast: Library) -> dict[str, Library]:
    return {"soft": soft, "fast": fast}


def check(libraries: dict[str, Library], name: str, rows: list[tuple[int, ...]], rm: int) -> None:
    exact = OPERATIONS[name].exact
    expected = [exact(*row, rm) for row in rows]
    # With the inexact flag already set, the host's arithmetic skips the check for exactness.
    for (build, library), initial in itertools.product(libraries.items(), (0, NX)):
        found = library.run(name, rows, rm, initial)
        wrong = [
            f"{build} {name}({', '.join(map(hex, row))}, rm={rm}, fl={initial}): "
            f"{got[0]:#x} {got[1]:#x}, not {want[0]:#x} {want[1] | initial:#x}"
            for row, got, want in zip(rows, found, expected, strict=True)
            if got != (want[0], want[1] | initial)
        ]
        assert not wrong, "\n".join(wrong[:10])


@pytest.mark.parametrize("name", OPERATIONS)
def test_edges(libraries: dict[str, Library], name: str) -> None:
    operation = OPERATIONS[name]
    count = len(operation.operands)
    rows = list(itertools.product(*(domain(width, count) for width in operation.operands)))
    for rm in MODES if operation.rounds else [RNE]:
        check(libraries, name, rows, rm)


@st.composite
def numbers(draw: st.DrawFn, f: Format) -> int:
    """Any bits; exponents are often close to each other and fractions often sparse."""
    if draw(st.booleans()):
        return draw(st.integers(0, 2**f.width - 1))
    top = f.infinity >> f.fraction_bits
    near = st.integers(-f.precision - 3, f.precision + 3).map(lambda d: f.bias + d)
    low, high = st.integers(0, f.precision + 3), st.integers(top - 3, top)
    exponent = draw(st.one_of(near, low, high))
    set_bits = draw(st.lists(st.integers(0, f.fraction_bits - 1), max_size=3))
    fraction = sum({1 << k for k in set_bits})
    if draw(st.booleans()):
        fraction ^= (1 << f.fraction_bits) - 1
    return draw(st.sampled_from((0, f.sign))) | exponent << f.fraction_bits | fraction


REGISTERS = st.integers(0, 2**64 - 1) | st.integers(-(2**34), 2**34).map(lambda x: x % 2**64)
BIT = st.integers(0, 1)
STRATEGIES = {
    0: REGISTERS,
    1: BIT,
    16: numbers(HALF),
    32: numbers(SINGLE),
    64: numbers(DOUBLE),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_operands(libraries: dict[str, Library], name: str) -> None:
    @settings(max_examples=100, deadline=None)
    @given(st.tuples(*(STRATEGIES[width] for width in OPERATIONS[name].operands)))
    def run(row: tuple[int, ...]) -> None:
        for rm in MODES:
            check(libraries, name, [row], rm)

    run()
