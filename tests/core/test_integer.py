"""I, M, Zba, Zbb, Zbs, Zicond: each instruction is compared with a formula."""

import pytest
from guest import (
    DATA,
    ECALL,
    MASK,
    TEXT,
    Guest,
    addi,
    b_type,
    i_type,
    jal,
    jalr,
    r_type,
    sext,
    signed,
)
from hypothesis import given, settings
from hypothesis import strategies as st

edges = [0, 1, 2, 31, 32, 63, 64, 0x7F, 0x80, 0xFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
values = st.one_of(
    st.sampled_from(edges + [MASK - e for e in edges] + [2**63 - 1, 2**63]),
    st.integers(0, MASK),
)


def div(a: int, b: int, bits: int) -> int:
    a, b = signed(a, bits), signed(b, bits)
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def rem(a: int, b: int, bits: int) -> int:
    a, b = signed(a, bits), signed(b, bits)
    return a if b == 0 else abs(a) % abs(b) * (-1 if a < 0 else 1)


def rotate_left(a: int, n: int, bits: int) -> int:
    a &= 2**bits - 1
    n %= bits
    return (a << n | a >> (bits - n)) & (2**bits - 1)


def w(value: int) -> int:
    return sext(value, 32)


def low(value: int) -> int:
    return value & 0xFFFFFFFF


def leading_zeros(a: int, bits: int) -> int:
    return bits - (a & (2**bits - 1)).bit_length()


def trailing_zeros(a: int, bits: int) -> int:
    a &= 2**bits - 1
    return (a & -a).bit_length() - 1 if a else bits


def orc_b(a: int) -> int:
    return sum(0xFF << s for s in range(0, 64, 8) if a >> s & 0xFF)


# name: (word, result of rs1 and rs2)
REGISTER = {
    "add": (0x00000033, lambda a, b: a + b),
    "sub": (0x40000033, lambda a, b: a - b),
    "sll": (0x00001033, lambda a, b: a << (b & 63)),
    "slt": (0x00002033, lambda a, b: signed(a) < signed(b)),
    "sltu": (0x00003033, lambda a, b: a < b),
    "xor": (0x00004033, lambda a, b: a ^ b),
    "srl": (0x00005033, lambda a, b: a >> (b & 63)),
    "sra": (0x40005033, lambda a, b: signed(a) >> (b & 63)),
    "or": (0x00006033, lambda a, b: a | b),
    "and": (0x00007033, lambda a, b: a & b),
    "addw": (0x0000003B, lambda a, b: w(a + b)),
    "subw": (0x4000003B, lambda a, b: w(a - b)),
    "sllw": (0x0000103B, lambda a, b: w(a << (b & 31))),
    "srlw": (0x0000503B, lambda a, b: w(low(a) >> (b & 31))),
    "sraw": (0x4000503B, lambda a, b: w(signed(a, 32) >> (b & 31))),
    "mul": (0x02000033, lambda a, b: a * b),
    "mulh": (0x02001033, lambda a, b: signed(a) * signed(b) >> 64),
    "mulhsu": (0x02002033, lambda a, b: signed(a) * b >> 64),
    "mulhu": (0x02003033, lambda a, b: a * b >> 64),
    "div": (0x02004033, lambda a, b: div(a, b, 64)),
    "divu": (0x02005033, lambda a, b: a // b if b else MASK),
    "rem": (0x02006033, lambda a, b: rem(a, b, 64)),
    "remu": (0x02007033, lambda a, b: a % b if b else a),
    "mulw": (0x0200003B, lambda a, b: w(a * b)),
    "divw": (0x0200403B, lambda a, b: w(div(a, b, 32))),
    "divuw": (0x0200503B, lambda a, b: w(low(a) // low(b)) if low(b) else MASK),
    "remw": (0x0200603B, lambda a, b: w(rem(a, b, 32))),
    "remuw": (0x0200703B, lambda a, b: w(low(a) % low(b)) if low(b) else w(a)),
    "add.uw": (0x0800003B, lambda a, b: low(a) + b),
    "sh1add": (0x20002033, lambda a, b: (a << 1) + b),
    "sh2add": (0x20004033, lambda a, b: (a << 2) + b),
    "sh3add": (0x20006033, lambda a, b: (a << 3) + b),
    "sh1add.uw": (0x2000203B, lambda a, b: (low(a) << 1) + b),
    "sh2add.uw": (0x2000403B, lambda a, b: (low(a) << 2) + b),
    "sh3add.uw": (0x2000603B, lambda a, b: (low(a) << 3) + b),
    "andn": (0x40007033, lambda a, b: a & ~b),
    "orn": (0x40006033, lambda a, b: a | ~b),
    "xnor": (0x40004033, lambda a, b: ~(a ^ b)),
    "max": (0x0A006033, lambda a, b: max(signed(a), signed(b))),
    "maxu": (0x0A007033, max),
    "min": (0x0A004033, lambda a, b: min(signed(a), signed(b))),
    "minu": (0x0A005033, min),
    "rol": (0x60001033, lambda a, b: rotate_left(a, b & 63, 64)),
    "ror": (0x60005033, lambda a, b: rotate_left(a, -b & 63, 64)),
    "rolw": (0x6000103B, lambda a, b: w(rotate_left(a, b & 31, 32))),
    "rorw": (0x6000503B, lambda a, b: w(rotate_left(a, -b & 31, 32))),
    "bclr": (0x48001033, lambda a, b: a & ~(1 << (b & 63))),
    "bext": (0x48005033, lambda a, b: a >> (b & 63) & 1),
    "binv": (0x68001033, lambda a, b: a ^ 1 << (b & 63)),
    "bset": (0x28001033, lambda a, b: a | 1 << (b & 63)),
    "czero.eqz": (0x0E005033, lambda a, b: a if b else 0),
    "czero.nez": (0x0E007033, lambda a, b: 0 if b else a),
}

# name: (word, result of rs1)
UNARY = {
    "clz": (0x60001013, lambda a: leading_zeros(a, 64)),
    "ctz": (0x60101013, lambda a: trailing_zeros(a, 64)),
    "cpop": (0x60201013, lambda a: a.bit_count()),
    "clzw": (0x6000101B, lambda a: leading_zeros(a, 32)),
    "ctzw": (0x6010101B, lambda a: trailing_zeros(a, 32)),
    "cpopw": (0x6020101B, lambda a: low(a).bit_count()),
    "sext.b": (0x60401013, lambda a: sext(a, 8)),
    "sext.h": (0x60501013, lambda a: sext(a, 16)),
    "zext.h": (0x0800403B, lambda a: a & 0xFFFF),
    "orc.b": (0x28705013, orc_b),
    "rev8": (0x6B805013, lambda a: int.from_bytes(a.to_bytes(8, "little"), "big")),
}

# name: (word, result of rs1 and the signed 12-bit immediate)
IMMEDIATE = {
    "addi": (0x00000013, lambda a, i: a + i),
    "slti": (0x00002013, lambda a, i: signed(a) < i),
    "sltiu": (0x00003013, lambda a, i: a < i & MASK),
    "xori": (0x00004013, lambda a, i: a ^ i),
    "ori": (0x00006013, lambda a, i: a | i),
    "andi": (0x00007013, lambda a, i: a & i),
    "addiw": (0x0000001B, lambda a, i: w(a + i)),
}

# name: (word, bits of the amount, result of rs1 and the amount)
SHIFT = {
    "slli": (0x00001013, 6, lambda a, n: a << n),
    "srli": (0x00005013, 6, lambda a, n: a >> n),
    "srai": (0x40005013, 6, lambda a, n: signed(a) >> n),
    "slliw": (0x0000101B, 5, lambda a, n: w(a << n)),
    "srliw": (0x0000501B, 5, lambda a, n: w(low(a) >> n)),
    "sraiw": (0x4000501B, 5, lambda a, n: w(signed(a, 32) >> n)),
    "slli.uw": (0x0800101B, 6, lambda a, n: low(a) << n),
    "rori": (0x60005013, 6, lambda a, n: rotate_left(a, -n, 64)),
    "roriw": (0x6000501B, 5, lambda a, n: w(rotate_left(a, -n, 32))),
    "bclri": (0x48001013, 6, lambda a, n: a & ~(1 << n)),
    "bexti": (0x48005013, 6, lambda a, n: a >> n & 1),
    "binvi": (0x68001013, 6, lambda a, n: a ^ 1 << n),
    "bseti": (0x28001013, 6, lambda a, n: a | 1 << n),
}

BRANCH = {
    "beq": (0x0063, lambda a, b: a == b),
    "bne": (0x1063, lambda a, b: a != b),
    "blt": (0x4063, lambda a, b: signed(a) < signed(b)),
    "bge": (0x5063, lambda a, b: signed(a) >= signed(b)),
    "bltu": (0x6063, lambda a, b: a < b),
    "bgeu": (0x7063, lambda a, b: a >= b),
}


def result(word: int, a: int = 0, b: int = 0) -> int:
    """x10 after one instruction with x11 = a, x12 = b."""
    return Guest([word, ECALL], x={10: 0x5A5A, 11: a, 12: b}).run_to_ecall().hart.x(10)


@pytest.mark.parametrize("name", REGISTER)
@given(a=values, b=values)
@settings(max_examples=60, deadline=None)
def test_register(name: str, a: int, b: int) -> None:
    word, formula = REGISTER[name]
    assert result(r_type(word, 10, 11, 12), a, b) == formula(a, b) & MASK


@pytest.mark.parametrize("name", REGISTER)
def test_operands_may_be_the_same_register(name: str) -> None:
    word, formula = REGISTER[name]
    a = 0x8000_0000_8000_0003
    guest = Guest([r_type(word, 10, 10, 10), ECALL], x={10: a}).run_to_ecall()
    assert guest.hart.x(10) == formula(a, a) & MASK


@pytest.mark.parametrize("name", UNARY)
@given(a=values)
@settings(max_examples=60, deadline=None)
def test_unary(name: str, a: int) -> None:
    word, formula = UNARY[name]
    assert result(r_type(word, 10, 11), a) == formula(a) & MASK


@pytest.mark.parametrize("name", IMMEDIATE)
@given(a=values, imm=st.integers(-2048, 2047))
@settings(max_examples=60, deadline=None)
def test_immediate(name: str, a: int, imm: int) -> None:
    word, formula = IMMEDIATE[name]
    assert result(i_type(word, 10, 11, imm), a) == formula(a, imm) & MASK


@pytest.mark.parametrize("name", SHIFT)
@given(a=values, data=st.data())
@settings(max_examples=60, deadline=None)
def test_shift(name: str, a: int, data: st.DataObject) -> None:
    word, bits, formula = SHIFT[name]
    amount = data.draw(st.integers(0, 2**bits - 1))
    assert result(word | 10 << 7 | 11 << 15 | amount << 20, a) == formula(a, amount) & MASK


@pytest.mark.parametrize("name", ["slliw", "srliw", "sraiw", "roriw"])
def test_word_shifts_by_32_and_more_are_illegal(name: str) -> None:
    word = SHIFT[name][0] | 10 << 7 | 11 << 15 | 32 << 20
    assert Guest([word]).fault()[:3] == (2, word, word)


@pytest.mark.parametrize("name", BRANCH)
@given(a=values, b=values)
@settings(max_examples=40, deadline=None)
def test_branch(name: str, a: int, b: int) -> None:
    word, condition = BRANCH[name]
    words = [b_type(word, 11, 12, 8), ECALL, addi(10, 0, 1), ECALL]
    guest = Guest(words, x={11: a, 12: b}).run_to_ecall()
    assert guest.hart.x(10) == condition(a, b)
    assert guest.hart.pc == TEXT + (12 if condition(a, b) else 4)


def test_branch_backwards_and_over_pages() -> None:
    guest = Guest(x={10: 3})
    loop = text_at = TEXT + 0x1FFC  # addi at the end of one page, the branch in the next
    guest.space.write(text_at, addi(10, 10, -1).to_bytes(4, "little"), force=True)
    words = [addi(11, 11, 1), b_type(0x1063, 10, 0, -8), ECALL]
    data = b"".join(word.to_bytes(4, "little") for word in words)
    guest.space.write(text_at + 4, data, force=True)
    guest.hart.pc = loop
    guest.run_to_ecall()
    assert (guest.hart.x(10), guest.hart.x(11)) == (0, 3)


def test_lui_auipc_sign_extend() -> None:
    words = [0x80000537, 0x80000597, 0x7FFFF637, ECALL]  # lui a0; auipc a1; lui a2
    guest = Guest(words).run_to_ecall()
    assert guest.hart.x(10) == 0xFFFFFFFF80000000
    assert guest.hart.x(11) == (0xFFFFFFFF80000000 + TEXT + 4) & MASK
    assert guest.hart.x(12) == 0x7FFFF000


def test_jal_and_jalr_link_and_clear_bit_0() -> None:
    guest = Guest([jal(1, 12), ECALL, ECALL, jalr(5, 10, -1)], x={10: TEXT + 6}).run_to_ecall()
    assert (guest.hart.x(1), guest.hart.x(5), guest.hart.pc) == (TEXT + 4, TEXT + 16, TEXT + 4)


def test_jalr_reads_its_source_before_it_links() -> None:
    guest = Guest([addi(0, 0, 0), jalr(10, 10, 4), ECALL], x={10: TEXT + 4}).run_to_ecall()
    assert (guest.hart.x(10), guest.hart.pc) == (TEXT + 8, TEXT + 8)


def test_x0_stays_zero() -> None:
    words = [addi(0, 11, 5), r_type(0x33, 10, 0, 0), i_type(0x3003, 0, 12), ECALL]
    guest = Guest(words, x={11: 7, 12: DATA}).run_to_ecall()
    assert (guest.hart.x(0), guest.hart.x(10)) == (0, 0)
    guest.hart.set_x(0, 9)
    assert guest.hart.regs()[0] == 0


@pytest.mark.parametrize("word", [0x0FF0000F, 0x8330000F, 0x0100000F, 0x0000100F, 0x00056013])
def test_fences_pause_and_prefetches_do_nothing(word: int) -> None:
    before = Guest([word, ECALL], x={10: 77})
    after = before.run_to_ecall()
    assert after.hart.x(10) == 77
    assert after.machine.icount == 2


@pytest.mark.parametrize("word", [0x00000000, 0xFFFFFFFF, 0x30200073, 0x10500073, 0x0000200B])
def test_illegal(word: int) -> None:
    bits = word if word & 3 == 3 else word & 0xFFFF
    guest = Guest([word])
    assert guest.fault() == (2, bits, bits, 0, 0, 0)
    assert (guest.hart.pc, guest.machine.icount) == (TEXT, 1)


def test_ebreak() -> None:
    guest = Guest([addi(0, 0, 0), 0x00100073])
    assert guest.fault() == (3, TEXT + 4, 0x00100073, 0, 0, 0)
    assert Guest([0x9002]).fault()[:3] == (3, TEXT, 0x9002)
