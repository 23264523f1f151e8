"""User-mode CSRs, and the parts of F and D that are not arithmetic: moves, boxing, rm."""

import pytest
from guest import DATA, ECALL, MASK, Guest, addi, csr, i_type, r_type, s_type

FFLAGS, FRM, FCSR, CYCLE, TIME, INSTRET = 1, 2, 3, 0xC00, 0xC01, 0xC02
NAN_S = 0xFFFFFFFF_7FC00000


def test_fcsr_and_its_parts() -> None:
    words = [csr(1, 10, FCSR, 11), csr(2, 12, FFLAGS, 0), csr(2, 13, FRM, 0)]
    words += [csr(5, 14, FRM, 9), csr(7, 15, FFLAGS, 5), csr(2, 16, FCSR, 0), ECALL]
    guest = Guest(words, x={11: 0xFFFF_FFFF_FFFF_FF5F}).run_to_ecall()
    assert [guest.hart.x(i) for i in (10, 12, 13, 14, 15, 16)] == [0, 31, 2, 2, 31, 0x3A]
    assert guest.hart.fcsr == 0x3A


def test_time_counts_instructions_and_what_the_kernel_adds() -> None:
    words = [addi(0, 0, 0), csr(2, 10, TIME, 0), csr(3, 11, TIME, 0), ECALL]
    guest = Guest(words)
    guest.machine.icount, guest.machine.time_offset = 1000, 50_000
    guest.run_to_ecall()
    assert (guest.hart.x(10), guest.hart.x(11)) == (51_002, 51_003)


@pytest.mark.parametrize(
    "word",
    [
        csr(2, 10, CYCLE, 0),
        csr(2, 10, INSTRET, 0),
        *(csr(2, 10, number, 0) for number in range(0xC03, 0xC20)),
        csr(1, 0, TIME, 10),
        csr(2, 0, TIME, 11),
        csr(6, 0, TIME, 1),
        csr(2, 10, 0x300, 0),
        csr(2, 10, 0x105, 0),
        csr(2, 10, 0x00B, 0),
        csr(1, 0, 0xC20, 10),
        csr(2, 10, 0xC23, 0),
        csr(2, 10, 0xFFF, 0),
        csr(4, 10, FCSR, 0),
    ],
)
def test_other_registers_and_writes_to_time_are_illegal(word: int) -> None:
    guest = Guest([word], x={10: 7})
    assert guest.fault() == (2, word, word, 0, 0, 0)
    assert guest.hart.x(10) == 7


def run_f(word: int, floats: dict[int, int], x: dict[int, int] | None = None) -> Guest:
    guest = Guest([word, ECALL], x=x or {})
    for register, bits in floats.items():
        guest.hart.set_f(register, bits)
    return guest.run_to_ecall()


def test_loads_and_stores_box() -> None:
    words = [i_type(0x2007, 0, 11, 4), s_type(0x2027, 11, 0, 12), i_type(0x3007, 1, 11, 0), ECALL]
    guest = Guest(words, x={11: DATA})
    guest.space.write(DATA, bytes(range(0x81, 0x89)))
    guest.run_to_ecall()
    assert guest.hart.f(0) == 0xFFFFFFFF_88878685
    assert guest.hart.f(1) == 0x8887868584838281
    assert guest.space.read(DATA + 12, 8) == b"\x85\x86\x87\x88\0\0\0\0"


def test_moves_take_the_raw_bits() -> None:
    assert run_f(r_type(0xE0000053, 10, 1), {1: 0x12345678_80000001}).hart.x(10) == (
        0xFFFFFFFF_80000001
    )
    assert run_f(r_type(0xE2000053, 10, 1), {1: MASK - 4}).hart.x(10) == MASK - 4
    assert run_f(r_type(0xF0000053, 1, 11), {}, {11: 0x5_7FC01234}).hart.f(1) == (
        0xFFFFFFFF_7FC01234
    )
    assert run_f(r_type(0xF2000053, 1, 11), {}, {11: 5}).hart.f(1) == 5


ONE_S, TWO_S, MINUS_TWO_S = 0xFFFFFFFF_3F800000, 0xFFFFFFFF_40000000, 0xFFFFFFFF_C0000000


@pytest.mark.parametrize(
    ("funct3", "expected_s", "expected_d"),
    [
        (0, 0xFFFFFFFF_BF800000, 0xBFF0000000000000),
        (1, ONE_S, 0x3FF0000000000000),
        (2, 0xFFFFFFFF_BF800000, 0xBFF0000000000000),
    ],
)
def test_sign_injection(funct3: int, expected_s: int, expected_d: int) -> None:
    guest = run_f(r_type(0x20000053 | funct3 << 12, 3, 1, 2), {1: ONE_S, 2: MINUS_TWO_S})
    assert guest.hart.f(3) == expected_s
    floats = {1: 0x3FF0000000000000, 2: 0xC000000000000000}
    assert run_f(r_type(0x22000053 | funct3 << 12, 3, 1, 2), floats).hart.f(3) == expected_d


def test_unboxed_singles_are_nan() -> None:
    floats = {1: 0x00000000_3F800000, 2: ONE_S}
    assert run_f(r_type(0x00000053, 3, 1, 2), floats).hart.f(3) == NAN_S
    assert run_f(r_type(0x20000053, 3, 1, 2), floats).hart.f(3) == NAN_S
    assert run_f(r_type(0xE0001053, 10, 1), floats).hart.x(10) == 1 << 9  # fclass: quiet NaN
    assert run_f(r_type(0x42000053, 3, 1), floats).hart.f(3) == 0x7FF8000000000000


@pytest.mark.parametrize("name", ["fmadd", "fmsub", "fnmsub", "fnmadd"])
def test_fused(name: str) -> None:
    opcode, result = {
        "fmadd": (0x43, 5.0),
        "fmsub": (0x47, 1.0),
        "fnmsub": (0x4B, -1.0),
        "fnmadd": (0x4F, -5.0),
    }[name]
    import struct

    def single(value: float) -> int:
        return 0xFFFFFFFF << 32 | int.from_bytes(struct.pack("<f", value), "little")

    def double(value: float) -> int:
        return int.from_bytes(struct.pack("<d", value), "little")

    guest = run_f(r_type(opcode, 4, 1, 2, 3), {1: single(1.5), 2: single(2), 3: single(2)})
    assert guest.hart.f(4) == single(result)
    word = r_type(opcode | 1 << 25, 4, 1, 2, 3)
    guest = run_f(word, {1: double(1.5), 2: double(2), 3: double(2)})
    assert guest.hart.f(4) == double(result)


@pytest.mark.parametrize("word", [0x00000053, 0x02000053, 0x43, 0xC0000053, 0xD0000053, 0x58000053])
def test_reserved_rounding_modes_are_illegal(word: int) -> None:
    for rm in (5, 6):
        illegal = word | rm << 12
        assert Guest([illegal]).fault()[:2] == (2, illegal)
    dynamic = word | 7 << 12
    for frm in range(8):
        guest = Guest([csr(5, 0, FRM, frm), dynamic, ECALL])
        if frm <= 4:
            guest.run_to_ecall()
        else:
            assert guest.fault()[:2] == (2, dynamic)


def test_flags_accumulate() -> None:
    guest = Guest([r_type(0x18000053, 3, 1, 2), r_type(0x18000053, 4, 1, 5), ECALL])
    guest.hart.set_f(1, ONE_S)
    guest.hart.set_f(2, 0xFFFFFFFF_00000000)
    guest.hart.set_f(5, 0xFFFFFFFF_40400000)
    assert guest.run_to_ecall().hart.fcsr == 8 | 1  # 1/0 and 1/3
