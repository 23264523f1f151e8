"""RISC-V floating point by definition, in exact rationals: slow, and independent of the core.

Operations take raw bits and a rounding mode, and return raw bits and the fflags they raise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import isqrt

RNE, RTZ, RDN, RUP, RMM = MODES = range(5)
NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16

Result = tuple[int, int]


@dataclass(frozen=True)
class Format:
    width: int
    fraction_bits: int

    @property
    def precision(self) -> int:
        return self.fraction_bits + 1

    @property
    def bias(self) -> int:
        return (1 << (self.width - self.fraction_bits - 2)) - 1

    @property
    def sign(self) -> int:
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        return self.sign - (1 << self.fraction_bits)

    @property
    def nan(self) -> int:
        return self.infinity | 1 << (self.fraction_bits - 1)

    def negative(self, a: int) -> bool:
        return a >= self.sign

    def size(self, a: int) -> int:
        return a & (self.sign - 1)

    def is_nan(self, a: int) -> bool:
        return self.size(a) > self.infinity

    def is_infinite(self, a: int) -> bool:
        return self.size(a) == self.infinity

    def is_signaling(self, a: int) -> bool:
        return self.is_nan(a) and a & self.nan != self.nan

    def value(self, a: int) -> Fraction:
        exponent, fraction = divmod(self.size(a), 1 << self.fraction_bits)
        if exponent:
            fraction += 1 << self.fraction_bits
        scale = Fraction(2) ** (max(exponent, 1) - self.bias - self.fraction_bits)
        return -fraction * scale if self.negative(a) else fraction * scale

    def signed(self, size: int, negative: bool) -> int:
        return size | self.sign if negative else size

    def zero(self, rm: int) -> int:
        """The sum of two numbers that cancel."""
        return self.signed(0, rm == RDN)

    def invalid(self, *operands: int) -> Result:
        """The result if an operand is a NaN, or if the operation is invalid."""
        quiet = any(map(self.is_nan, operands)) and not any(map(self.is_signaling, operands))
        return self.nan, 0 if quiet else NV


HALF = Format(16, 10)
SINGLE = Format(32, 23)
DOUBLE = Format(64, 52)


def round_integer(x: Fraction, rm: int) -> tuple[int, bool]:
    """x rounded to an integer, and whether that changed it."""
    size = abs(x)
    n = size.numerator // size.denominator
    rest = size - n
    half = Fraction(1, 2)
    away = {
        RNE: rest > half or (rest == half and n % 2 == 1),
        RTZ: False,
        RDN: rest > 0 and x < 0,
        RUP: rest > 0 and x > 0,
        RMM: rest >= half,
    }[rm]
    n += away
    return (-n if x < 0 else n), rest != 0


def exponent_of(size: Fraction) -> int:
    e = size.numerator.bit_length() - size.denominator.bit_length()
    return e if size >= Fraction(2) ** e else e - 1


def rounded(f: Format, x: Fraction, rm: int) -> Result:
    """The nonzero x, rounded to the format."""
    least = 1 - f.bias
    e = exponent_of(abs(x))

    def at(exponent: int) -> tuple[int, bool, Fraction]:
        scale = Fraction(2) ** (exponent - f.fraction_bits)
        n, inexact = round_integer(x / scale, rm)
        return abs(n), inexact, abs(n) * scale

    tiny = at(e)[2] < Fraction(2) ** least
    n, inexact, size = at(max(e, least))
    if size >= Fraction(2) ** (f.bias + 1):
        to_infinity = {RNE: True, RTZ: False, RDN: x < 0, RUP: x > 0, RMM: True}[rm]
        return f.signed(f.infinity - (not to_infinity), x < 0), OF | NX
    bits = (max(e, least) + f.bias - 1 << f.fraction_bits) + n
    return f.signed(bits, x < 0), (NX if inexact else 0) | (UF if inexact and tiny else 0)


def add(f: Format, a: int, b: int, rm: int) -> Result:
    if f.is_nan(a) or f.is_nan(b):
        return f.invalid(a, b)
    if f.is_infinite(a) or f.is_infinite(b):
        if f.is_infinite(a) and f.is_infinite(b) and a != b:
            return f.invalid()
        return (a if f.is_infinite(a) else b), 0
    x = f.value(a) + f.value(b)
    if x:
        return rounded(f, x, rm)
    return (a if a == b else f.zero(rm)), 0


def sub(f: Format, a: int, b: int, rm: int) -> Result:
    return add(f, a, b ^ f.sign, rm)


def mul(f: Format, a: int, b: int, rm: int) -> Result:
    negative = f.negative(a) != f.negative(b)
    if f.is_nan(a) or f.is_nan(b):
        return f.invalid(a, b)
    if f.is_infinite(a) or f.is_infinite(b):
        if not f.size(a) or not f.size(b):
            return f.invalid()
        return f.signed(f.infinity, negative), 0
    x = f.value(a) * f.value(b)
    return rounded(f, x, rm) if x else (f.signed(0, negative), 0)


def div(f: Format, a: int, b: int, rm: int) -> Result:
    negative = f.negative(a) != f.negative(b)
    if f.is_nan(a) or f.is_nan(b):
        return f.invalid(a, b)
    if f.is_infinite(a):
        return f.invalid() if f.is_infinite(b) else (f.signed(f.infinity, negative), 0)
    if not f.size(b):
        return (f.signed(f.infinity, negative), DZ) if f.size(a) else f.invalid()
    if f.is_infinite(b) or not f.size(a):
        return f.signed(0, negative), 0
    return rounded(f, f.value(a) / f.value(b), rm)


def sqrt(f: Format, a: int, rm: int) -> Result:
    if f.is_nan(a):
        return f.invalid(a)
    if not f.size(a):
        return a, 0
    if f.negative(a):
        return f.invalid()
    if f.is_infinite(a):
        return a, 0
    # The root, truncated far below any rounding, with a sticky bit.
    shift = 2 * f.precision + f.bias
    scaled = f.value(a) * 4**shift
    root = isqrt(int(scaled))
    mark = Fraction(0) if root * root == scaled else Fraction(1, 2)
    return rounded(f, (root + mark) / 2**shift, rm)


def fma(f: Format, a: int, b: int, c: int, rm: int) -> Result:
    negative = f.negative(a) != f.negative(b)
    infinite = f.is_infinite(a) or f.is_infinite(b)
    if not f.is_nan(a) and not f.is_nan(b) and infinite and not (f.size(a) and f.size(b)):
        return f.invalid()  # even if c is a quiet NaN
    if f.is_nan(a) or f.is_nan(b) or f.is_nan(c):
        return f.invalid(a, b, c)
    if infinite:
        if f.is_infinite(c) and f.negative(c) != negative:
            return f.invalid()
        return f.signed(f.infinity, negative), 0
    if f.is_infinite(c):
        return c, 0
    product = f.value(a) * f.value(b)
    x = product + f.value(c)
    if x:
        return rounded(f, x, rm)
    same_sign = not product and f.negative(c) == negative
    return (c if same_sign else f.zero(rm)), 0


def lesser(f: Format, a: int, b: int, rm: int) -> Result:
    flags = NV if f.is_signaling(a) or f.is_signaling(b) else 0
    if f.is_nan(a) or f.is_nan(b):
        numbers = [x for x in (a, b) if not f.is_nan(x)]
        return (numbers or [f.nan])[0], flags
    return min(a, b, key=partial(place, f)), flags


def greater(f: Format, a: int, b: int, rm: int) -> Result:
    bits, flags = lesser(f, a ^ f.sign, b ^ f.sign, rm)
    return (bits if f.is_nan(bits) else bits ^ f.sign), flags


def extreme(
    of_numbers: Callable[[Format, int, int, int], Result], f: Format, a: int, b: int, rm: int
) -> Result:
    bits, flags = of_numbers(f, a, b, rm)
    return (f.nan if f.is_nan(a) or f.is_nan(b) else bits), flags


def place(f: Format, a: int) -> int:
    """The position of a number in the order of all numbers, -0 just below +0."""
    return -1 - f.size(a) if f.negative(a) else f.size(a)


def compare(
    relation: Callable[[Fraction, Fraction], bool], quiet: bool, f: Format, a: int, b: int, rm: int
) -> Result:
    if f.is_nan(a) or f.is_nan(b):
        signaling = f.is_signaling(a) or f.is_signaling(b)
        return 0, NV if signaling or not quiet else 0
    # The bits of infinity, read as a number, are larger than those of every number.
    return int(relation(f.value(a), f.value(b))), 0


def classify(f: Format, a: int, rm: int) -> Result:
    if f.is_nan(a):
        return (1 << 8 if f.is_signaling(a) else 1 << 9), 0
    size = f.size(a)
    if f.is_infinite(a):
        rank = 3
    elif size >> f.fraction_bits:
        rank = 2
    else:
        rank = 1 if size else 0
    return 1 << (3 - rank if f.negative(a) else 4 + rank), 0


def to_integer(bits: int, is_signed: bool, f: Format, a: int, rm: int) -> Result:
    low = -(1 << bits - 1) if is_signed else 0
    high = (1 << bits - is_signed) - 1
    if f.is_nan(a):
        return extended(high, bits), NV
    if f.is_infinite(a):
        return extended(low if f.negative(a) else high, bits), NV
    n, inexact = round_integer(f.value(a), rm)
    if not low <= n <= high:
        return extended(min(max(n, low), high), bits), NV
    return extended(n, bits), NX if inexact else 0


def modular(f: Format, a: int, rm: int) -> Result:
    """fcvtmod.w.d: the flags of fcvt.w.d, and the low 32 bits of the truncated value."""
    _, flags = to_integer(32, True, f, a, RTZ)
    if f.is_nan(a) or f.is_infinite(a):
        return 0, flags
    return extended(round_integer(f.value(a), RTZ)[0], 32), flags


def to_integral(f: Format, a: int, exact: int, rm: int) -> Result:
    """fround (exact 0) and froundnx (1)."""
    if f.is_nan(a):
        return f.invalid(a)
    if f.is_infinite(a) or not f.size(a):
        return a, 0
    n, inexact = round_integer(f.value(a), rm)
    bits = rounded(f, Fraction(n), rm)[0] if n else f.signed(0, f.negative(a))
    return bits, NX if inexact and exact else 0


def extended(n: int, bits: int) -> int:
    """The register of an integer result: sign-extended, even if the integer is unsigned."""
    n &= (1 << bits) - 1
    return (n - (1 << bits) if n >> bits - 1 else n) & (1 << 64) - 1


def from_integer(bits: int, is_signed: bool, f: Format, x: int, rm: int) -> Result:
    x &= (1 << bits) - 1
    if is_signed and x >> bits - 1:
        x -= 1 << bits
    return rounded(f, Fraction(x), rm) if x else (0, 0)


def convert(source: Format, target: Format, a: int, rm: int) -> Result:
    if source.is_nan(a):
        return target.nan, NV if source.is_signaling(a) else 0
    if source.is_infinite(a):
        return target.signed(target.infinity, source.negative(a)), 0
    if not source.size(a):
        return target.signed(0, source.negative(a)), 0
    return rounded(target, source.value(a), rm)


@dataclass(frozen=True)
class Operation:
    # 16, 32 or 64: floating point of that width; 0: an integer register; 1: a bit
    operands: tuple[int, ...]
    exact: Callable[..., Result]  # of the operands' bits and rm
    rounds: bool = True


def _operations() -> dict[str, Operation]:
    table = {
        "f32_to_f64": Operation((32,), partial(convert, SINGLE, DOUBLE), rounds=False),
        "f64_to_f32": Operation((64,), partial(convert, DOUBLE, SINGLE)),
        "f16_to_f32": Operation((16,), partial(convert, HALF, SINGLE), rounds=False),
        "f16_to_f64": Operation((16,), partial(convert, HALF, DOUBLE), rounds=False),
        "f32_to_f16": Operation((32,), partial(convert, SINGLE, HALF)),
        "f64_to_f16": Operation((64,), partial(convert, DOUBLE, HALF)),
        "d_to_i32_modular": Operation((64,), partial(modular, DOUBLE), rounds=False),
    }
    for s, f in (("s", SINGLE), ("d", DOUBLE)):
        w = f.width
        for name, exact, count, rounds in (
            ("add", add, 2, True),
            ("sub", sub, 2, True),
            ("mul", mul, 2, True),
            ("div", div, 2, True),
            ("sqrt", sqrt, 1, True),
            ("fma", fma, 3, True),
            ("min", lesser, 2, False),
            ("max", greater, 2, False),
            ("eq", partial(compare, Fraction.__eq__, True), 2, False),
            ("lt", partial(compare, Fraction.__lt__, False), 2, False),
            ("le", partial(compare, Fraction.__le__, False), 2, False),
            ("class", classify, 1, False),
            ("minimum", partial(extreme, lesser), 2, False),
            ("maximum", partial(extreme, greater), 2, False),
            ("lt_quiet", partial(compare, Fraction.__lt__, True), 2, False),
            ("le_quiet", partial(compare, Fraction.__le__, True), 2, False),
        ):
            table[f"{name}_{s}"] = Operation((w,) * count, partial(exact, f), rounds)
        table[f"round_{s}"] = Operation((w, 1), partial(to_integral, f))
        for bits in (32, 64):
            for sign, is_signed in (("i", True), ("u", False)):
                table[f"{s}_to_{sign}{bits}"] = Operation(
                    (w,), partial(to_integer, bits, is_signed, f)
                )
                table[f"{sign}{bits}_to_{s}"] = Operation(
                    (0,), partial(from_integer, bits, is_signed, f)
                )
    return table


OPERATIONS = _operations()
