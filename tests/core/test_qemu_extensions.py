"""Random programs of the scalar RVA23 extensions: the same registers as under qemu-user.

Debian 12's qemu (7.2) supports Zfhmin only, Debian 13's (10.0) all of them; QEMU_RISCV64 may name
one that is not on the path. Extensions that it does not support are skipped.
"""

import os
import random
import signal
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from guest import addi, i_type, ld, r_type, s_type
from test_memory import AMOS
from test_qemu_differential import (
    ADDRESS_REGISTER,
    BASE,
    DATA_REGISTER,
    END,
    QEMU,
    compare,
    elf,
    image,
    random_instruction,
)

COMMAND = os.environ.get("QEMU_RISCV64") or QEMU
CPUS = ["max", "rv64,Zfhmin=true"]  # the first that supports the extension is used


def integer(rng: random.Random) -> int:
    return rng.randrange(3, 30)


def rounding(rng: random.Random) -> int:
    return rng.choice([0, 1, 2, 3, 4, 7]) << 12


def at_data(rng: random.Random, size: int) -> tuple[int, int]:
    """An offset within the data, and the instruction that sets the address register to it."""
    offset = rng.randrange(2032 // size) * size
    return offset, addi(ADDRESS_REGISTER, DATA_REGISTER, offset)


def zfhmin(rng: random.Random) -> list[int]:
    fd, fs, x = rng.randrange(32), rng.randrange(32), integer(rng)
    return rng.choice(
        [
            [i_type(0x1007, fd, DATA_REGISTER, rng.randrange(2040))],
            [s_type(0x1027, DATA_REGISTER, fs, rng.randrange(2040))],
            [r_type(0xE4000053, x, fs)],
            [r_type(0xF4000053, fd, x)],
            [r_type(0x40200053 | rounding(rng), fd, fs)],
            [r_type(0x42200053 | rounding(rng), fd, fs)],
            [r_type(0x44000053 | rounding(rng), fd, fs)],
            [r_type(0x44100053 | rounding(rng), fd, fs)],
        ]
    )


def zfa(rng: random.Random) -> list[int]:
    fd, a, b, x = rng.randrange(32), rng.randrange(32), rng.randrange(32), integer(rng)
    fmt = rng.randrange(2) << 25
    return rng.choice(
        [
            [r_type(0xF0100053 | fmt, fd, a)],
            [r_type(0x28002053 | fmt, fd, a, b)],
            [r_type(0x28003053 | fmt, fd, a, b)],
            [r_type(0x40400053 | fmt | rounding(rng), fd, a)],
            [r_type(0x40500053 | fmt | rounding(rng), fd, a)],
            [r_type(0xC2801053, x, a)],
            [r_type(0xA0004053 | fmt, x, a, b)],
            [r_type(0xA0005053 | fmt, x, a, b)],
        ]
    )


def amocas(rng: random.Random, sizes: dict[int, int]) -> list[int]:
    """Every other one succeeds. rd is not x0, because qemu 10.0 then overwrites its zero."""
    size = rng.choice(list(sizes))
    rd, rs2 = rng.randrange(4, 28, 2), rng.randrange(0, 28, 2)
    offset, address = at_data(rng, size)
    expected = [ld(rd, DATA_REGISTER, offset), ld(rd + 1, DATA_REGISTER, offset + 8)]
    swap = r_type(sizes[size] | rng.randrange(4) << 25, rd, ADDRESS_REGISTER, rs2)
    return [*(expected if rng.random() < 0.5 else []), address, swap]


def zacas(rng: random.Random) -> list[int]:
    return amocas(rng, {4: 0x2800202F, 8: 0x2800302F, 16: 0x2800402F})


def zabha(rng: random.Random) -> list[int]:
    if rng.random() < 0.3:
        return amocas(rng, {1: 0x2800002F, 2: 0x2800102F})
    size, funct3 = rng.choice([(1, 0x002F), (2, 0x102F)])
    word = rng.choice(list(AMOS.values()))[0] | funct3
    return [at_data(rng, size)[1], r_type(word, integer(rng), ADDRESS_REGISTER, integer(rng))]


def zicboz(rng: random.Random) -> list[int]:
    return [at_data(rng, 1)[1], i_type(0x200F, 0, ADDRESS_REGISTER, 4)]


def hints(rng: random.Random) -> list[int]:
    prefetch = i_type(0x6013, 0, integer(rng), rng.randrange(128) << 5 | rng.choice([0, 1, 3]))
    return [rng.choice([0x0100000F, 0x00200033, 0x00500033, 0x00D00073, 0x01D00073, prefetch])]


# name: a word of it, its random instructions
EXTENSIONS: dict[str, tuple[int, Callable[[random.Random], list[int]]]] = {
    "Zfhmin": (0x40200053, zfhmin),
    "Zfa": (0xF0100053, zfa),
    "Zacas": (0x2800202F, zacas),
    "Zabha": (0x0000002F, zabha),
    "Zicboz": (0x0040200F, zicboz),
    "Zawrs and the hints": (0x01D00073, hints),
}


def knows(qemu: list[str], word: int, tmp_path: Path) -> bool:
    """Whether the word is an instruction. It may raise SIGSEGV, because its address is 0."""
    words = [word, addi(10, 0, 0), addi(17, 0, 94), 0x73]
    program = tmp_path / "probe"
    program.write_bytes(elf(struct.pack("<4I", *words).ljust(END - BASE, b"\0")))
    program.chmod(0o755)
    answer = subprocess.run([*qemu, str(program)], capture_output=True)
    return answer.returncode in (0, -signal.SIGSEGV)


@pytest.mark.skipif(COMMAND is None, reason="no qemu-riscv64: install Debian's qemu-user")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", EXTENSIONS)
def test_same_registers_as_qemu(name: str, seed: int, tmp_path: Path) -> None:
    word, instruction = EXTENSIONS[name]
    qemu = next((q for c in CPUS if knows(q := [str(COMMAND), "-cpu", c], word, tmp_path)), None)
    if qemu is None:
        pytest.skip(f"{COMMAND} does not know {name}")

    def mixed(rng: random.Random) -> list[int]:
        return instruction(rng) if rng.random() < 0.5 else random_instruction(rng)

    compare(image(seed, mixed), qemu, tmp_path)
