"""Random vector instructions: the executor and qemu-user have the same state after each.

A program sets vtype, vl, vstart, vcsr and frm at random, executes one random word of the vector
opcodes (most are instructions, many are reserved), and dumps all registers and CSRs. SIGILL and
SIGSEGV are counted in a register and skipped. To run any number of cases by hand:

    QEMU_RISCV64=... python tests/core/vector_programs.py --cases 300000
"""

import argparse
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guest import R, W, X, addi, csr, i_type, jal, jalr, r_type, s_type, sd

from shstk.tracer import _core

QEMU = os.environ.get("QEMU_RISCV64") or shutil.which("qemu-riscv64")
CPU = "rv64,v=true,vlen=128,elen=64,zvbb=true,zvfhmin=true"
BASE, DATA, DUMPS = 0x10000, 0x400000, 0x800000
DATA_SIZE = 0x20000  # the pages after it are unmapped
CASES = 1500
VSTART, VXSAT, VXRM, VCSR, VL, VTYPE = 0x008, 0x009, 0x00A, 0x00F, 0xC20, 0xC21
# x1 returns from the dump, x28 points to it, x30 holds an address, x29 counts the signals.
LINK, DUMP, COUNT, ADDRESS, T = 1, 28, 29, 30, 31
CSRS = [VSTART, VL, VTYPE, VCSR, 3]
DUMP_BYTES = 512 + 8 * (32 + 32 + len(CSRS))
NAMES = [f"v{i // 2}.{i % 2}" for i in range(64)] + [f"x{i}" for i in range(32)]
NAMES += [f"f{i}" for i in range(32)] + ["vstart", "vl", "vtype", "vcsr", "fcsr"]
UNARY = (0x10, 0x12, 0x13, 0x14)  # the opcode continues in vs1
SPECIALS_32 = [0, 1 << 31, 0x3F800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 1, 0x7FFFFF]
SPECIALS_64 = [0, 1 << 63, 0x3FF << 52, 0x7FF << 52, 0xFFF << 52, 0x7FF8 << 48, 1, 0x7FF << 52 | 1]


def li(rd: int, value: int) -> list[int]:
    """A 32-bit constant, sign-extended."""
    high = (value + 0x800) & 0xFFFFF000
    return [0x37 | rd << 7 | high, i_type(0x1B, rd, rd, value - high)]


def memory_word(opcode: int, width: int, vd: int, rs1: int, field: int, rest: int) -> int:
    """rest: nf, mew, mop and vm, from bit 25."""
    return opcode | vd << 7 | width << 12 | rs1 << 15 | field << 20 | rest << 25


def whole(opcode: int, vd: int, rs1: int) -> int:
    """vl8re8.v, vs8r.v."""
    return memory_word(opcode, 0, vd, rs1, 8, 7 << 4 | 1)


def register(rng: random.Random) -> int:
    step = rng.choice([1, 1, 2, 4, 8])
    return rng.randrange(32 // step) * step


# "A vector register cannot be used to provide source operands with more than one EEW": reserved,
# and illegal in the executor; qemu 10.0 checks it only where vd is read too.
MIXED = {(0, f) for f in (0x0E, 0x2C, 0x2D, 0x2E, 0x2F, 0x30, 0x31, 0x35)} | {(2, 0x17)}
MIXED |= {(f3, f6) for f3 in (1, 2) for f6 in range(0x30, 0x40)}


def mixes_widths(word: int) -> bool:
    funct3, funct6, vd = word >> 12 & 7, word >> 26, word >> 7 & 31
    vs1, vs2, masked = word >> 15 & 31, word >> 20 & 31, not word >> 25 & 1
    near = 8  # registers of the largest group
    if word & 0x7F == 0x57:
        zero = vs2 == 0 or (funct3 < 3 and vs1 == 0)
        mixed = (funct3, funct6) in MIXED and abs(vs1 - vs2) < near
        return (masked and zero) or mixed
    indexed = bool(word >> 26 & 1)
    return (masked and (vd == 0 or (indexed and vs2 == 0))) or (
        indexed and abs(vd - vs2) < 2 * near
    )


def assigned() -> list[int]:
    """A word of every arithmetic row: its funct6, funct3, and vs1 where that is part of it."""
    words = {}
    for funct3 in range(7):
        for funct6 in range(64):
            unary = funct3 in (1, 2) and funct6 in UNARY
            for second in range(32) if unary else (0,):
                for vm in range(2):
                    word = 0x57 | funct3 << 12 | second << 15 | vm << 25 | funct6 << 26
                    if (row := _core.decode(word)) is not None:
                        words[row[0]] = word
    return list(words.values())


ASSIGNED = assigned()


def arithmetic(rng: random.Random) -> list[int]:
    """A word of OP-V except vsetvl; most are words of a row."""
    if rng.random() < 0.15:
        word = 0x57 | rng.randrange(7) << 12 | rng.randrange(32) << 15 | rng.randrange(128) << 25
    else:
        word = rng.choice(ASSIGNED)
        word ^= rng.choice([0, 0, 1]) << 25
    funct3, funct6 = word >> 12 & 7, word >> 26
    vd, vs2 = register(rng), register(rng)
    if funct3 in (4, 6):
        word |= rng.randrange(3, 28) << 15
    elif funct3 in (3, 5):
        word |= rng.randrange(32) << 15
    elif funct3 == 0 or funct6 not in UNARY:
        word |= register(rng) << 15
    if funct3 == 2 and funct6 == 0x10:
        vd = rng.randrange(3, 28)  # an integer register
    if (funct3, funct6) in ((6, 0x10), (5, 0x10)) or rng.random() < 0.02:
        vs2 = 0
    return [word | vd << 7 | vs2 << 20]


def memory(rng: random.Random) -> list[int]:
    opcode, width, vm = rng.choice([0x07, 0x27]), rng.choice([0, 5, 6, 7]), rng.randrange(2)
    mop, nf, vd = rng.randrange(4), rng.choice([0, 0, 0, *range(1, 8)]), register(rng)
    near_end = rng.random() < 0.2
    at = DATA + (DATA_SIZE - rng.randrange(200) if near_end else rng.randrange(0x1000, 0xF000))
    at &= ~rng.choice([0, 1, 7, 7, 7])
    field = rng.choice([0, 0, 0, 8, 11, 16, 16, rng.randrange(32)])
    if (opcode, mop, field) == (0x07, 0, 16):  # qemu 10.0 aborts if it crosses into the next page
        at &= ~0xC07
    words = li(ADDRESS, at)
    if mop == 2:
        field = rng.randrange(3, 28)
        words += li(field, rng.choice([0, 1, 3, 8, 16, -8, -1, 40, rng.randrange(-300, 300)]))
    elif mop in (1, 3):
        field = register(rng)
        words += li(T, DATA + rng.choice([0, 0x400, 0x800, 0xC00])) if rng.random() < 0.9 else []
        if words[2:]:  # small indices of the width
            words += [csr(5, 0, VSTART, 0), whole(0x07, field & 24, T)]
    # qemu 10.0 aborts for a vstart beyond a whole register's elements.
    words += [csr(5, 0, VSTART, rng.choice([0, 0, 0, 0, 1, 1 if field == 8 else 17]))]
    return [*words, memory_word(opcode, width, vd, ADDRESS, field, nf << 4 | mop << 1 | vm)]


def setting(rng: random.Random) -> list[int]:
    """A legal vtype and vl that every implementation must accept."""
    while True:
        sew, lmul = rng.randrange(4), rng.choice([-3, -2, -1, 0, 0, 0, 1, 2, 3])
        if sew <= 3 + min(lmul, 0):
            break
    vtype = sew << 3 | lmul & 7 | rng.randrange(4) << 6
    avl = rng.choice([0, 1, 2, 3, 5, 8, 16, 31, 128, 128, 128, rng.randrange(128)])
    return [*li(T, avl), 0x7057 | T << 15 | vtype << 20]


def case(rng: random.Random) -> list[int]:
    words = []
    if rng.random() < 0.3:  # fresh values
        words += [*li(T, DATA + 0x1000 + 8 * rng.randrange(0x1000))]
        words += [whole(0x07, 8 * rng.randrange(4), T)]
        words += [i_type(0x3003, rng.randrange(3, 28), T, 8 * i) for i in range(3)]
        words += [i_type(0x3007, rng.randrange(32), T, 8 * i) for i in range(4, 8)]
        words += [i_type(0x2007, rng.randrange(32), T, 8 * i) for i in range(8, 12)]
    if rng.random() < 0.1:
        words.append(addi(rng.randrange(3, 28), 0, rng.randrange(-4, 20)))
    words += setting(rng)
    words.append(csr(5, 0, VCSR, rng.randrange(8)))
    words.append(csr(5, 0, 2, rng.choice([0, 0, 0, 1, 2, 3, 4, 5])))
    words.append(csr(5, 0, 1, rng.choice([0, 0, 16, 31])))
    words.append(csr(5, 0, VSTART, rng.choice([0] * 12 + [1, 2, 7, 31])))
    while mixes_widths((tail := memory(rng) if rng.random() < 0.25 else arithmetic(rng))[-1]):
        pass
    return words + tail


def dump_routine() -> list[int]:
    words = [sd(0, DUMP, 512)]
    words += [sd(i, DUMP, 512 + 8 * i) for i in range(1, 31) if i not in (2, DUMP)]
    words += [s_type(0x3027, DUMP, i, 768 + 8 * i) for i in range(32)]
    for i, number in enumerate(CSRS):
        words += [csr(2, T, number, 0), sd(T, DUMP, 1024 + 8 * i)]
    words.append(csr(5, 0, VSTART, 0))
    for vd in (0, 8, 16, 24):
        words += [whole(0x27, vd, DUMP), addi(DUMP, DUMP, 128)]
    return [*words, addi(DUMP, DUMP, DUMP_BYTES - 512), jalr(0, LINK)]


def handler() -> list[int]:
    """void handler(signo, info, ucontext): add 1 for SIGILL, 2 for others; skip the instruction."""
    pc, count = 176, 176 + 8 * COUNT
    return [
        i_type(0x3003, 5, 12, pc), addi(5, 5, 4), sd(5, 12, pc),
        i_type(0x3003, 5, 12, count), addi(5, 5, 2), i_type(0x2013, 6, 10, 5),
        r_type(0x40000033, 5, 5, 6), sd(5, 12, count),
        jalr(0, LINK),
    ]  # fmt: skip


def program(seed: int, cases: int) -> tuple[bytes, bytes, list[int]]:
    """Text, data, and the word of each case."""
    rng = random.Random(seed)
    routine, on_signal = dump_routine(), handler()
    head = [0, *routine, *on_signal]
    dump_at, handler_at = BASE + 4, BASE + 4 + 4 * len(routine)
    head[0] = jal(0, 4 * len(head))
    words, probes = head, []
    words += [*li(T, handler_at), *li(ADDRESS, DATA), sd(T, ADDRESS, 0)]
    words += [addi(5, 0, 4), sd(5, ADDRESS, 8), sd(0, ADDRESS, 16)]  # SA_SIGINFO
    for signal in (4, 7, 11):
        words += [addi(10, 0, signal), addi(11, ADDRESS, 0), addi(12, 0, 0), addi(13, 0, 8)]
        words += [addi(17, 0, 134), 0x73]
    words += [*li(DUMP, DUMPS), addi(COUNT, 0, 0)]
    # The signal set-up has used the first words of the data.
    words += [sd(0, ADDRESS, 0), sd(0, ADDRESS, 8), *[addi(i, 0, i) for i in range(3, 28)]]
    for _ in range(cases):
        words += case(rng)
        probes.append(words[-1])
        words.append(jal(LINK, dump_at - (BASE + 4 * len(words))))
    total = cases * DUMP_BYTES
    for start, size in ((DUMPS, total), (DATA, DATA_SIZE)):
        words += [addi(10, 0, 1), *li(11, start), *li(12, size), addi(17, 0, 64), 0x73]
    words += [addi(10, 0, 0), addi(17, 0, 94), 0x73]
    text = struct.pack(f"<{len(words)}I", *words)
    assert BASE + len(text) < DATA
    return text, random_data(rng), probes


def random_data(rng: random.Random) -> bytes:
    indices = b"".join(
        b"".join((rng.randrange(0, 200) & ~rng.choice([0, 7])).to_bytes(width, "little")
                 for _ in range(1024 // width))
        for width in (1, 2, 4, 8)
    )  # fmt: skip
    data = bytearray(indices)
    while len(data) < DATA_SIZE:
        kind = rng.random()
        if kind < 0.25:
            data += rng.choice(SPECIALS_64).to_bytes(8, "little")
        elif kind < 0.5:
            for _ in range(2):
                data += rng.choice(SPECIALS_32).to_bytes(4, "little")
        elif kind < 0.6:
            data += struct.pack("<d", rng.uniform(-1e5, 1e5))
        elif kind < 0.7:
            data += struct.pack("<ff", rng.uniform(-1e5, 1e5), rng.uniform(-70000, 70000))
        elif kind < 0.8:
            data += bytes(rng.choice([0, 1, 0x7F, 0x80, 0xFF]) for _ in range(8))
        else:
            data += rng.randbytes(8)
    return bytes(data)


def elf(text: bytes, data: bytes, dumps: int) -> bytes:
    """A static executable with three segments, all R, W and X."""
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 243, 1, BASE, 64, 0, 5, 64, 56, 3, 0, 0, 0
    )
    data_at = 0x1000 + -(-len(text) // 0x1000) * 0x1000
    for offset, at, size in (
        (0x1000, BASE, len(text)),
        (data_at, DATA, len(data)),
        (data_at + len(data), DUMPS, dumps),
    ):
        header += struct.pack("<IIQQQQQQ", 1, 7, offset, at, at, size, size, 0x1000)
    return (header.ljust(0x1000, b"\0") + text).ljust(data_at, b"\0") + data + bytes(dumps)


def run_here(text: bytes, data: bytes, dumps: int) -> bytes:
    machine = _core.Machine()
    space = _core.AddressSpace(machine)
    for start, size in ((BASE, len(text)), (DATA, DATA_SIZE), (DUMPS, dumps)):
        space.map(start, -(-size // 4096) * 4096, R | W | X)
    space.write(BASE, text)
    space.write(DATA, data)
    hart, out = _core.Hart(machine), b""
    hart.pc = BASE
    while True:
        stop = hart.run(space, 1 << 40, 1, 1)
        if stop == _core.STOP_FAULT:
            hart.set_x(COUNT, hart.x(COUNT) + (1 if hart.fault()[0] == 2 else 2))
        elif hart.x(17) == 64:
            out += space.read(hart.x(11), hart.x(12)) or b""
        elif hart.x(17) == 94:
            return out
        hart.pc += 4


def qemu_command(qemu: str) -> list[str] | None:
    """None: this qemu does not support the CPU."""
    command = [qemu, "-cpu", CPU]
    answer = subprocess.run([*command, "/dev/null"], capture_output=True, text=True)
    return None if "Property" in answer.stderr else command


def differences(seed: int, cases: int, command: list[str]) -> list[str]:
    """The differing states of this program: one line per case."""
    text, data, probes = program(seed, cases)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "program")
        file.write_bytes(elf(text, data, cases * DUMP_BYTES))
        file.chmod(0o755)
        answer = subprocess.run([*command, str(file)], capture_output=True)
        theirs = answer.stdout
        if answer.returncode:
            return [f"seed {seed}: qemu ended by {answer.returncode}: {answer.stderr.decode()}"]
    ours = run_here(text, data, cases * DUMP_BYTES)
    assert len(ours) == len(theirs) == cases * DUMP_BYTES + DATA_SIZE, (len(ours), len(theirs))
    found: list[str] = []
    before = bytes(DUMP_BYTES)
    for i, word in enumerate(probes):
        at = i * DUMP_BYTES
        mine, yours = ours[at : at + DUMP_BYTES], theirs[at : at + DUMP_BYTES]
        if mine != yours:
            words = zip(
                NAMES,
                *(struct.unpack(f"<{len(NAMES)}Q", d) for d in (mine, yours, before)),
                strict=True,
            )
            what = ", ".join(f"{n} {a:x} not {b:x} (was {c:x})" for n, a, b, c in words if a != b)
            found.append(f"seed {seed} case {i} {word:#010x}: {what}")
            break  # later cases start from different states
        before = mine
    if not found and ours[-DATA_SIZE:] != theirs[-DATA_SIZE:]:
        found.append(f"seed {seed}: memory differs")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    if QEMU is None:
        raise SystemExit("no qemu-riscv64: install Debian's qemu-user, or set QEMU_RISCV64")
    command = qemu_command(QEMU)
    if command is None:
        raise SystemExit(f"{QEMU} has no {CPU}")
    programs = -(-options.cases // CASES)
    found = [
        line
        for seed in range(options.seed, options.seed + programs)
        for line in differences(seed, CASES, command)
    ]
    print("\n".join(found) or f"{programs * CASES} cases, the same as {' '.join(command)}")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
