"""The decoder and qemu-user's RVA23 CPU agree which of 200,000 words are instructions.

The words cover funct7, funct3 and rs2 of scalar arithmetic, atomics, fences and may-be operations.
Needs a qemu with `-cpu rva23u64` (as in Debian 13); QEMU_RISCV64 may name it.
"""

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest import DATA, ECALL, R, W, X
from test_qemu_extensions import COMMAND

from shstk.tracer import _core

CPU = "rva23u64,zifencei=true,zacas=true,zabha=true"
ILLEGAL = 2
TEXT = 0x1000000
# Linux enables these in user mode, qemu-user does not.
CBO_CLEAN, CBO_FLUSH = 0x0015A00F, 0x0025A00F
A0, A1 = 10, 11


def words() -> Iterator[int]:
    for opcode in (0x33, 0x3B, 0x13, 0x1B, 0x53, 0x2F):
        for high in range(2**12):  # funct7 and rs2
            yield from (opcode | A0 << 7 | f3 << 12 | A1 << 15 | high << 20 for f3 in range(8))
    for high in range(2**12):
        for rd in (0, A0):
            yield 0x73 | rd << 7 | 4 << 12 | A1 << 15 | high << 20  # may-be operations
        if high > 1:  # neither ecall nor ebreak
            yield 0x73 | high << 20
    for f3 in range(8):
        for rd in (0, 1, 5, A0):
            for imm in (*range(70), *range(70, 2**12, 37)):
                yield 0x0F | rd << 7 | f3 << 12 | A1 << 15 | imm << 20
    for f3 in (1, 2, 3, 4):  # the other widths are vector accesses
        yield 0x07 | A0 << 7 | f3 << 12 | A1 << 15
        yield 0x27 | A0 << 20 | f3 << 12 | A1 << 15
    for opcode in (0x43, 0x47, 0x4B, 0x4F):
        for fmt in range(4):
            for rm in range(8):
                yield opcode | A0 << 7 | rm << 12 | A1 << 15 | 12 << 20 | fmt << 25 | 13 << 27


def legal_here(probes: list[int]) -> list[bool]:
    machine = _core.Machine(without=("zicfiss", "zicfilp"))
    space = _core.AddressSpace(machine)
    space.map(TEXT, -(-8 * len(probes) // 4096) * 4096, R | X)
    space.map(DATA, 0x4000, R | W)
    space.write(TEXT, b"".join(struct.pack("<II", w, ECALL) for w in probes), force=True)
    hart, legal = _core.Hart(machine), []
    for i in range(len(probes)):
        hart.pc, hart.fcsr = TEXT + 8 * i, 0
        hart.set_x(A0, 0)
        hart.set_x(A1, DATA + 0x1000)
        faulted = hart.run(space, 1, 1, 1) == _core.STOP_FAULT
        legal.append(not (faulted and hart.fault()[0] == ILLEGAL))
    return legal


@pytest.mark.skipif(COMMAND is None, reason="no qemu-riscv64: install Debian's qemu-user")
def test_the_same_words_are_instructions(tmp_path: Path) -> None:
    models = subprocess.run([str(COMMAND), "-cpu", "help"], capture_output=True, text=True).stdout
    if "rva23u64" not in models:
        pytest.skip(f"{COMMAND} has no RVA23 CPU")
    probes = list(words())
    file, program = tmp_path / "words", tmp_path / "probe"
    file.write_bytes(struct.pack(f"<{len(probes)}I", *probes))
    source = Path(__file__).with_name("decoder_probe.c")
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl", "-O1"]
    subprocess.run([*compiler, "-static", "-o", program, source], check=True)
    command = [str(COMMAND), "-cpu", CPU, str(program), str(file)]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert len(theirs) == len(probes)
    differing = {
        f"{word:#010x} is {'' if here else 'not '}one here"
        for word, here, there in zip(probes, legal_here(probes), theirs, strict=True)
        if here != (there == ".") and word not in (CBO_CLEAN, CBO_FLUSH)
    }
    assert not differing
