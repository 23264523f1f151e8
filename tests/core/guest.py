"""Tiny guests for the tests of the executor: instruction words by encoding, run until an ecall."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from shstk.tracer import _core

TEXT = 0x10000
DATA = 0x20000
STACK = 0x40000  # a shadow stack of two pages; ssp starts at its end
STACK_END = STACK + 0x2000
MASK = 2**64 - 1
ECALL = 0x73
EBREAK = 0x100073
NOP = 0x13

R, W, X, SS = _core.PERM_R, _core.PERM_W, _core.PERM_X, _core.PERM_SS


def r_type(word: int, rd: int = 0, rs1: int = 0, rs2: int = 0, rs3: int = 0) -> int:
    """`word` with the register fields filled in."""
    return word | rd << 7 | rs1 << 15 | rs2 << 20 | rs3 << 27


def i_type(word: int, rd: int = 0, rs1: int = 0, imm: int = 0) -> int:
    return word | rd << 7 | rs1 << 15 | (imm & 0xFFF) << 20


def s_type(word: int, rs1: int = 0, rs2: int = 0, imm: int = 0) -> int:
    return word | (imm & 31) << 7 | rs1 << 15 | rs2 << 20 | (imm >> 5 & 127) << 25


def b_type(word: int, rs1: int, rs2: int, imm: int) -> int:
    high = (imm >> 12 & 1) << 31 | (imm >> 5 & 63) << 25
    return word | rs1 << 15 | rs2 << 20 | high | (imm >> 1 & 15) << 8 | (imm >> 11 & 1) << 7


def jal(rd: int, imm: int) -> int:
    high = (imm >> 20 & 1) << 31 | (imm >> 1 & 0x3FF) << 21
    return 0x6F | rd << 7 | high | (imm >> 11 & 1) << 20 | (imm & 0xFF000)


def addi(rd: int, rs1: int, imm: int) -> int:
    return i_type(0x13, rd, rs1, imm)


def jalr(rd: int, rs1: int, imm: int = 0) -> int:
    return i_type(0x67, rd, rs1, imm)


def ld(rd: int, rs1: int, imm: int = 0) -> int:
    return i_type(0x3003, rd, rs1, imm)


def sd(rs2: int, rs1: int, imm: int = 0) -> int:
    return s_type(0x3023, rs1, rs2, imm)


SSPUSH_RA, SSPUSH_T0 = 0xCE104073, 0xCE504073
SSPOPCHK_RA, SSPOPCHK_T0 = 0xCDC0C073, 0xCDC2C073
C_SSPUSH_RA, C_SSPOPCHK_T0 = 0x6081, 0x6281
SSP = 0x011


def ssrdp(rd: int) -> int:
    return 0xCDC04073 | rd << 7


def ssamoswap_d(rd: int, rs1: int, rs2: int) -> int:
    return r_type(0x4800302F, rd, rs1, rs2)


def ssamoswap_w(rd: int, rs1: int, rs2: int) -> int:
    return r_type(0x4800202F, rd, rs1, rs2)


def lpad(label: int) -> int:
    return label << 12 | 0x17


def csr(funct3: int, rd: int, number: int, source: int) -> int:
    """csrrw 1, csrrs 2, csrrc 3, csrrwi 5, csrrsi 6, csrrci 7."""
    return 0x73 | funct3 << 12 | rd << 7 | source << 15 | number << 20


def text_of(words: Iterable[int]) -> bytes:
    """Words with low bits 11 take four bytes, others two."""
    return b"".join(struct.pack("<I" if w & 3 == 3 else "<H", w) for w in words)


@dataclass
class Guest:
    """A machine with a hart and an address space: text at TEXT, a data page, a shadow stack."""

    words: Sequence[int] = ()
    trace: int = 0
    without: Sequence[str] = ()  # extensions
    sse: bool = False
    lpe: bool = False
    max_frames: int = 0
    x: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machine = _core.Machine(
            without=self.without,
            trace=self.trace,
            max_frames=self.max_frames,
        )
        self.space = _core.AddressSpace(self.machine)
        self.space.map(TEXT, 0x4000, R | X)
        self.space.map(DATA, 0x4000, R | W)
        self.space.map(STACK, 0x2000, R | W | SS)
        assert self.space.write(TEXT, text_of(self.words), force=True)
        self.hart = _core.Hart(self.machine)
        self.hart.pc = TEXT
        self.hart.ssp = STACK_END
        self.hart.sse = self.sse
        self.hart.lpe = self.lpe
        for register, value in self.x.items():
            self.hart.set_x(register, value & MASK)

    def run(self, budget: int = 100_000) -> int:
        return self.hart.run(self.space, budget, 1, 1)

    def run_to_ecall(self) -> "Guest":
        stop = self.run()
        assert stop == _core.STOP_ECALL, (stop, self.hart.fault(), hex(self.hart.pc))
        return self

    def fault(self) -> tuple[int, int, int, int, int, int]:
        """Runs into the fault and returns it."""
        stop = self.run()
        assert stop == _core.STOP_FAULT, (stop, hex(self.hart.pc))
        return self.hart.fault()

    def word(self, addr: int) -> int:
        data = self.space.read(addr, 8)
        assert data is not None
        return int.from_bytes(data, "little")

    def rows(self, table: str) -> list[dict[str, int]]:
        columns = {name: view.tolist() for name, view in self.machine.drain(table).items()}
        return [
            {name: values[i] for name, values in columns.items() if len(values) > i}
            for i in range(len(columns["seq"]))
        ]


def signed(value: int, bits: int = 64) -> int:
    value &= 2**bits - 1
    return value - 2**bits if value >> (bits - 1) else value


def sext(value: int, bits: int) -> int:
    return signed(value, bits) & MASK
