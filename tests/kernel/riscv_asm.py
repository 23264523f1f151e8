"""A tiny RV64 assembler, so that the tests' guests are plain text and need no toolchain.

`program(text)` returns a static ELF image with one read-write-execute segment; execution starts at
the first line. `report REG` writes a register to standard output (8 bytes, little endian).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

BASE = 0x10000
HEADER = 64 + 56
NAMES = (
    ["zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1"]
    + [f"a{i}" for i in range(8)]
    + [f"s{i}" for i in range(2, 12)]
    + [f"t{i}" for i in range(3, 7)]
)
REGISTERS = {name: i for i, name in enumerate(NAMES)} | {f"x{i}": i for i in range(32)}
SSP = 0x011

MACROS = {
    # Write one word to standard output; clobbers nothing.
    "report": """
        addi sp, sp, -48
        sd a0, 0(sp)
        sd a1, 8(sp)
        sd a2, 16(sp)
        sd a7, 24(sp)
        sd {0}, 32(sp)
        li a0, 1
        addi a1, sp, 32
        li a2, 8
        li a7, 64
        ecall
        ld a0, 0(sp)
        ld a1, 8(sp)
        ld a2, 16(sp)
        ld a7, 24(sp)
        addi sp, sp, 48
    """,
    # sys NR, a0, a1, …: arguments are numbers or labels; registers of omitted arguments are kept.
    "enable": "prctl 75, 1, 0, 0, 0",
    "prctl": "sys 167, {0}, {1}, {2}, {3}, {4}",
    "exit": "sys 93, {0}",
}


def _i(opcode: int, funct3: int, rd: int, rs1: int, imm: int) -> int:
    assert -2048 <= imm < 4096, imm
    return (imm & 0xFFF) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode


def _r(opcode: int, funct3: int, funct7: int, rd: int, rs1: int, rs2: int) -> int:
    return funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode


def _s(funct3: int, rs1: int, rs2: int, imm: int) -> int:
    imm &= 0xFFF
    return (imm >> 5) << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | (imm & 31) << 7 | 0x23


def _b(funct3: int, rs1: int, rs2: int, offset: int) -> int:
    o = offset & 0x1FFF
    high = (o >> 12 & 1) << 6 | (o >> 5 & 0x3F)
    low = (o >> 1 & 0xF) << 1 | (o >> 11 & 1)
    return high << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | low << 7 | 0x63


def _j(rd: int, offset: int) -> int:
    o = offset & 0x1FFFFF
    imm = (o >> 20 & 1) << 19 | (o >> 1 & 0x3FF) << 9 | (o >> 11 & 1) << 8 | (o >> 12 & 0xFF)
    return imm << 12 | rd << 7 | 0x6F


def _li(rd: int, value: int) -> list[int]:
    value = (value + 2**63) % 2**64 - 2**63
    if -2048 <= value < 2048:
        return [_i(0x13, 0, rd, 0, value)]
    low = (value + 0x800) % 0x1000 - 0x800
    if -(2**31) <= value < 2**31:
        high = (value - low) >> 12 & 0xFFFFF
        return [high << 12 | rd << 7 | 0x37, _i(0x1B, 0, rd, rd, low)]
    return [*_li(rd, (value - low) >> 12), _i(0x13, 1, rd, rd, 12), _i(0x13, 0, rd, rd, low)]


LOADS = {"lb": 0, "lh": 1, "lw": 2, "ld": 3, "lbu": 4, "lhu": 5, "lwu": 6}
STORES = {"sb": 0, "sh": 1, "sw": 2, "sd": 3}
BRANCHES = {"beq": 0, "bne": 1, "blt": 4, "bge": 5, "bltu": 6, "bgeu": 7}
OPS = {"add": (0, 0), "sub": (0, 0x20), "and": (7, 0), "or": (6, 0), "xor": (4, 0)}
ATOMICS = {  # funct5
    "lr.d": 2,
    "sc.d": 3,
    "amoadd.d": 0,
    "ssamoswap.d": 9,
}
PLAIN = {
    "ecall": 0x73,
    "ebreak": 0x100073,
    "nop": 0x13,
    "ret": 0x8067,
    "unimp": 0xC0001073,
    "sspush": 0xCE104073,
    "sspopchk": 0xCDC0C073,
    "sspopchk_t0": 0xCDC2C073,
    "c.sspush": 0x6081,
    "c.sspopchk_t0": 0x6281,
}


class Assembler:
    """Two passes over the lines. The first collects the labels."""

    def __init__(self, text: str, base: int) -> None:
        self.lines = list(self._expand(text))
        self.labels: dict[str, int] = {}
        for _ in range(2):
            self.at = base
            self.out = bytearray()
            for line in self.lines:
                self._line(line)

    def _expand(self, text: str) -> list[str]:
        lines: list[str] = []
        for raw in text.splitlines():
            line = raw.split("#")[0].strip()
            if label := re.match(r"\w+:", line):
                lines.append(label[0])
                line = line[label.end() :].strip()
            if not line:
                continue
            name, _, rest = line.partition(" ")
            operands = [o.strip() for o in rest.split(",")]
            if name in MACROS:
                lines += self._expand(MACROS[name].format(*operands))
            elif name == "sys":
                for register, operand in zip(
                    ["a0", "a1", "a2", "a3", "a4", "a5"], operands[1:], strict=False
                ):
                    lines.append(f"li {register}, {operand}")
                lines += [f"li a7, {operands[0]}", "ecall"]
            else:
                lines.append(line)
        return lines

    def _emit(self, *words: int) -> None:
        for word in words:
            data = struct.pack("<I" if word & 3 == 3 else "<H", word)
            self.out += data
            self.at += len(data)

    def value(self, text: str) -> int:
        match = re.fullmatch(r"([A-Za-z_.]\w*)([+-]\d+)?", text)
        if match:
            return self.labels.get(match[1], BASE + HEADER) + int(match[2] or 0)
        return int(text, 0)

    def _line(self, line: str) -> None:
        if line.endswith(":"):
            self.labels[line[:-1]] = self.at
            return
        name, _, rest = line.partition(" ")
        args = [o.strip() for o in rest.split(",")] if rest else []
        if name == ".dword":
            for arg in args:
                self.out += struct.pack("<Q", self.value(arg) & 2**64 - 1)
                self.at += 8
        elif name == ".zero":
            self.out += bytes(int(args[0], 0))
            self.at += int(args[0], 0)
        elif name == ".align":
            gap = -self.at % int(args[0], 0)
            self.out += bytes(gap)
            self.at += gap
        else:
            self._emit(*self._instruction(name, args))

    def _instruction(self, name: str, args: list[str]) -> list[int]:
        if name in PLAIN:
            return [PLAIN[name]]
        if name == "li":
            rd = REGISTERS[args[0]]
            if re.match(r"[A-Za-z_.]", args[1]):  # a label: always two words, in both passes
                value = self.value(args[1])
                low = (value + 0x800) % 0x1000 - 0x800
                return [value - low | rd << 7 | 0x37, _i(0x13, 0, rd, rd, low)]
            return _li(rd, int(args[1], 0))
        if name in LOADS or name in STORES:
            offset, rs1 = re.fullmatch(r"(-?\w*)\((\w+)\)", args[1]).groups()  # type: ignore[union-attr]
            r, base, imm = REGISTERS[args[0]], REGISTERS[rs1], int(offset or "0", 0)
            if name in LOADS:
                return [_i(0x03, LOADS[name], r, base, imm)]
            return [_s(STORES[name], base, r, imm)]
        if name in BRANCHES:
            a, b = REGISTERS[args[0]], REGISTERS[args[1]]
            return [_b(BRANCHES[name], a, b, self.value(args[2]) - self.at)]
        if name in OPS:
            funct3, funct7 = OPS[name]
            return [_r(0x33, funct3, funct7, *(REGISTERS[r] for r in args))]
        if name in ATOMICS:  # rd, rs2, (rs1); lr.d rd, (rs1)
            *given, address = args
            regs = [REGISTERS[r] for r in given] + [0] * (2 - len(given))
            return [_r(0x2F, 3, ATOMICS[name] << 2, regs[0], REGISTERS[address[1:-1]], regs[1])]
        return [OTHERS[name](self, args)]


OTHERS: dict[str, Callable[[Assembler, list[str]], int]] = {
    "addi": lambda s, a: _i(0x13, 0, REGISTERS[a[0]], REGISTERS[a[1]], int(a[2], 0)),
    "andi": lambda s, a: _i(0x13, 7, REGISTERS[a[0]], REGISTERS[a[1]], int(a[2], 0)),
    "slli": lambda s, a: _i(0x13, 1, REGISTERS[a[0]], REGISTERS[a[1]], int(a[2], 0)),
    "mv": lambda s, a: _i(0x13, 0, REGISTERS[a[0]], REGISTERS[a[1]], 0),
    "j": lambda s, a: _j(0, s.value(a[0]) - s.at),
    "call": lambda s, a: _j(1, s.value(a[0]) - s.at),
    "beqz": lambda s, a: _b(0, REGISTERS[a[0]], 0, s.value(a[1]) - s.at),
    "bnez": lambda s, a: _b(1, REGISTERS[a[0]], 0, s.value(a[1]) - s.at),
    "jr": lambda s, a: _i(0x67, 0, 0, REGISTERS[a[0]], 0),
    "jalr": lambda s, a: _i(0x67, 0, 1, REGISTERS[a[0]], 0),
    "csrr": lambda s, a: _i(0x73, 2, REGISTERS[a[0]], 0, int(a[1], 0)),
    "csrr_ssp": lambda s, a: _i(0x73, 2, REGISTERS[a[0]], 0, SSP),
    "csrw_ssp": lambda s, a: _i(0x73, 1, 0, REGISTERS[a[0]], SSP),
    "ssrdp": lambda s, a: 0xCDC04073 | REGISTERS[a[0]] << 7,
    "lpad": lambda s, a: int(a[0], 0) << 12 | 0x17,
    ".word": lambda s, a: int(a[0], 0),
}


def program(text: str) -> bytes:
    code = Assembler(text, BASE + HEADER)
    size = HEADER + len(code.out)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    entry = BASE + HEADER
    # ET_EXEC, EM_RISCV; e_flags: RVC, double-float ABI
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, 243, 1, entry, 64, 0, 0x5, 64, 56, 1, 64, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, size, size, 4096)
    return header + segment + bytes(code.out)


def labels(text: str) -> dict[str, int]:
    return Assembler(text, BASE + HEADER).labels
