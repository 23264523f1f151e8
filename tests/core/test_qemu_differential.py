"""Random straight-line RV64GC, Zba, Zbb, Zbs programs: the same registers as under qemu-user.

Each program dumps x, f and fcsr every few instructions and writes the dumps at its end.
"""

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from guest import R, W, X, addi, csr, i_type, r_type, s_type, sd
from test_integer import IMMEDIATE, REGISTER, SHIFT, UNARY
from test_memory import AMOS, LOADS, STORES

from shstk.tracer import _core

QEMU = shutil.which("qemu-riscv64-static") or shutil.which("qemu-riscv64")
BASE = 0x10000
DATA = 0x40000
DUMPS = 0x50000
END = 0x100000
DUMP_WORDS = 31 + 32 + 1  # x1..x31, f0..f31, fcsr
STEPS = 60
BURST = 12
DATA_REGISTER, DUMP_REGISTER, ADDRESS_REGISTER = 31, 2, 30
# Instructions that Debian's qemu 7.2 lacks or gets wrong (ctzw of a word with a zero low half).
NOT_QEMUS = {"czero.eqz", "czero.nez", "ctzw"}
REGISTER_WORDS = [row[0] for name, row in REGISTER.items() if name not in NOT_QEMUS]
UNARY_WORDS = [row[0] for name, row in UNARY.items() if name not in NOT_QEMUS]

SPECIAL_DOUBLES = [0.0, -0.0, 1.0, -1.5, 1e308, 5e-324, float("inf"), float("-inf"), float("nan")]


def random_bits(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.3:
        return struct.unpack("<Q", struct.pack("<d", rng.choice(SPECIAL_DOUBLES)))[0]
    if kind < 0.5:
        return struct.unpack("<Q", struct.pack("<d", rng.uniform(-1e6, 1e6)))[0]
    if kind < 0.8:
        single = struct.unpack("<I", struct.pack("<f", rng.choice([*SPECIAL_DOUBLES[:4], 3.7e-39])))
        return 0xFFFFFFFF << 32 | (single[0] ^ rng.getrandbits(rng.choice([0, 4, 31])))
    return rng.getrandbits(64)


def random_float(rng: random.Random) -> int:
    """A floating-point instruction with any operands and a valid rounding mode."""
    fmt = rng.randrange(2)
    rm = rng.choice([0, 1, 2, 3, 4, 7])
    a, b, c, d = (rng.randrange(32) for _ in range(4))
    rd = rng.randrange(3, 30)  # where the destination is an integer register
    funct7 = {
        "arithmetic": rng.choice([0x00, 0x04, 0x08, 0x0C]) | fmt,
        "sqrt": 0x2C | fmt,
        "sign": 0x10 | fmt,
        "minmax": 0x14 | fmt,
        "compare": 0x50 | fmt,
        "to_int": 0x60 | fmt,
        "from_int": 0x68 | fmt,
        "class": 0x70 | fmt,
        "to_other": 0x20 | fmt,
    }
    name = rng.choice([*funct7, "fused"])
    if name == "fused":
        return r_type(rng.choice([0x43, 0x47, 0x4B, 0x4F]) | fmt << 25 | rm << 12, a, b, c, d)
    word = 0x53 | funct7[name] << 25
    match name:
        case "arithmetic":
            return r_type(word | rm << 12, a, b, c)
        case "sqrt":
            return r_type(word | rm << 12, a, b)
        case "sign":
            return r_type(word | rng.randrange(3) << 12, a, b, c)
        case "minmax":
            return r_type(word | rng.randrange(2) << 12, a, b, c)
        case "compare":
            return r_type(word | rng.randrange(3) << 12, rd, b, c)
        case "to_int":
            return r_type(word | rm << 12, rd, b, rng.randrange(4))
        case "from_int":
            return r_type(word | rm << 12, a, rd, rng.randrange(4))
        case "class":
            return r_type(word | rng.randrange(2) << 12, rd, b)
        case _:
            return r_type(word | rm << 12, a, b, 1 - fmt)


def random_instruction(rng: random.Random) -> list[int]:
    rd, rs1, rs2 = (rng.randrange(3, 30) for _ in range(3))
    kind = rng.random()
    if kind < 0.25:
        return [r_type(rng.choice(REGISTER_WORDS), rd, rs1, rs2)]
    if kind < 0.32:
        return [r_type(rng.choice(UNARY_WORDS), rd, rs1)]
    if kind < 0.42:
        return [i_type(rng.choice(list(IMMEDIATE.values()))[0], rd, rs1, rng.randrange(4096))]
    if kind < 0.5:
        word, bits, _ = rng.choice(list(SHIFT.values()))
        return [word | rd << 7 | rs1 << 15 | rng.randrange(2**bits) << 20]
    if kind < 0.56:
        word = rng.choice(list(LOADS.values()))[0]
        return [i_type(word, rd, DATA_REGISTER, rng.randrange(2040))]
    if kind < 0.6:
        word = rng.choice(list(STORES.values()))[0]
        return [s_type(word, DATA_REGISTER, rs2, rng.randrange(2040))]
    if kind < 0.66:
        word = rng.choice(list(AMOS.values()))[0] | rng.choice([0x202F, 0x302F])
        address = addi(ADDRESS_REGISTER, DATA_REGISTER, rng.randrange(255) * 8)
        return [address, r_type(word, rd, ADDRESS_REGISTER, rs2)]
    if kind < 0.74:
        return [i_type(0x3007, rng.randrange(32), DATA_REGISTER, rng.randrange(255) * 8)]
    if kind < 0.76:
        return [csr(5, 0, 2, rng.randrange(5))]  # frm
    return [random_float(rng)]


def lui(rd: int, value: int) -> int:
    return 0x37 | rd << 7 | value


def slli(rd: int, amount: int) -> int:
    return i_type(0x1013, rd, rd, amount)


def image(seed: int, instruction: Callable[[random.Random], list[int]]) -> bytes:
    """The memory from BASE to END: text, then data, then room for the dumps."""
    rng = random.Random(seed)
    words = [lui(DATA_REGISTER, DATA), lui(DUMP_REGISTER, DUMPS)]
    for i in range(3, 30):
        words.append(i_type(0x3003, i, DATA_REGISTER, 8 * i))
    for i in range(32):
        words.append(i_type(0x3007, i, DATA_REGISTER, 512 + 8 * i))
    for _ in range(STEPS):
        for _ in range(BURST):
            words += instruction(rng)
        words += [sd(i, DUMP_REGISTER, 8 * (i - 1)) for i in range(1, 32)]
        words += [s_type(0x3027, DUMP_REGISTER, i, 8 * (31 + i)) for i in range(32)]
        words += [csr(2, ADDRESS_REGISTER, 3, 0), sd(ADDRESS_REGISTER, DUMP_REGISTER, 8 * 63)]
        words += [addi(DUMP_REGISTER, DUMP_REGISTER, 8 * DUMP_WORDS)]
    write, exit_group = 64, 94
    words += [addi(10, 0, 1), lui(11, DUMPS), addi(12, 0, STEPS), slli(12, 9)]
    words += [addi(17, 0, write), 0x73, addi(10, 0, 0), addi(17, 0, exit_group), 0x73]
    text = struct.pack(f"<{len(words)}I", *words)
    assert len(text) < DATA - BASE
    data = b"".join(random_bits(rng).to_bytes(8, "little") for _ in range(256))
    return text.ljust(DATA - BASE, b"\0") + data.ljust(END - DATA, b"\0")


def elf(memory: bytes) -> bytes:
    """A static executable with one segment, R, W and X."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 243, 1, BASE, 64, 0, 5, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0x1000, BASE, BASE, len(memory), len(memory), 0x1000)
    return (header + segment).ljust(0x1000, b"\0") + memory


def dumps_here(memory: bytes) -> bytes:
    machine = _core.Machine()
    space = _core.AddressSpace(machine)
    space.map(BASE, END - BASE, R | W | X)
    space.write(BASE, memory)
    hart = _core.Hart(machine)
    hart.pc = BASE
    assert hart.run(space, 1_000_000, 1, 1) == _core.STOP_ECALL, hart.fault()
    assert hart.x(17) == 64
    dumps = space.read(hart.x(11), hart.x(12))
    assert dumps is not None
    return dumps


@pytest.mark.skipif(QEMU is None, reason="no qemu-riscv64(-static): install Debian's qemu-user")
@pytest.mark.parametrize("seed", range(20))
def test_same_registers_as_qemu(seed: int, tmp_path: Path) -> None:
    compare(image(seed, random_instruction), [str(QEMU)], tmp_path)


def compare(memory: bytes, qemu: Sequence[str], tmp_path: Path) -> None:
    """Run the image in the executor and under `qemu`, and compare the dumps."""
    program = tmp_path / "program"
    program.write_bytes(elf(memory))
    program.chmod(0o755)
    theirs = subprocess.run([*qemu, str(program)], capture_output=True, check=True).stdout
    ours = dumps_here(memory)
    assert len(ours) == len(theirs) == STEPS * DUMP_WORDS * 8
    names = [f"x{i}" for i in range(1, 32)] + [f"f{i}" for i in range(32)] + ["fcsr"]
    for step in range(STEPS):
        at = step * DUMP_WORDS * 8
        mine = struct.unpack_from(f"<{DUMP_WORDS}Q", ours, at)
        yours = struct.unpack_from(f"<{DUMP_WORDS}Q", theirs, at)
        differing = {
            n: (hex(a), hex(b)) for n, a, b in zip(names, mine, yours, strict=True) if a != b
        }
        assert not differing, f"after burst {step}: ours, qemu's"
