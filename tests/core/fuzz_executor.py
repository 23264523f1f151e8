"""Hostile guests: random words, jumps and pages; the interpreter compared with native code.
Run by hand, preferably on a sanitizer build:

    pip install --no-build-isolation --no-deps -e . -C cmake.define.SHSTK_SANITIZE=ON
    LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \\
        ASAN_OPTIONS=detect_leaks=0 python tests/core/fuzz_executor.py --seconds 60
"""

import argparse
import hashlib
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guest import MASK, SS, R, W, X

from shstk.tracer import _core

PAGE = 0x1000
BASE = 0x3FFFC000  # sixteen pages around a border of page-table nodes
PAGES = 16
CAUSES = {0, 1, 2, 3, 5, 7, 12, 13, 15, 18, _core.FAULT_NO_FRAME}
PERMS = [R, R | W, R | X, R | W | X, R | W | SS, W | SS, 0]
FILE_PERMS = [R, R | X, R | W | X, R | W | _core.PERM_SHARED, R | X | _core.PERM_SHARED]
# Words with random operand bits: loads, stores, branches, jal, jalr, amo, csr, arithmetic, FP,
# vectors.
OPCODES = [0x03, 0x07, 0x0F, 0x13, 0x17, 0x1B, 0x23, 0x27, 0x2F, 0x33, 0x37, 0x3B]
OPCODES += [0x43, 0x47, 0x4B, 0x4F, 0x53, 0x57, 0x57, 0x57, 0x63, 0x67, 0x6F, 0x73]
SPECIAL = [0xCE104073, 0xCDC0C073, 0xCDC04573, 0x4800302F, 0x01102573, 0x01151073, 0x17, 0x73]
SPECIAL += [0x0045A00F, 0x0015A00F, 0x28C5C52F]  # cbo.zero, cbo.clean, amocas.q


def random_text(rng: random.Random, size: int) -> bytes:
    text = bytearray()
    while len(text) < size:
        kind = rng.random()
        if kind < 0.5:
            word = rng.getrandbits(32) & ~0x7F | rng.choice(OPCODES)
            if rng.random() < 0.5:  # small registers and immediates fault less often
                word &= 0x01FF7FFF if word & 0x7F != 0x63 else 0x80FF7FFF
            text += word.to_bytes(4, "little")
        elif kind < 0.6:
            text += rng.choice(SPECIAL).to_bytes(4, "little")
        else:
            text += (rng.getrandbits(16) & ~3 | rng.choice([0, 1, 2])).to_bytes(2, "little")
    return bytes(text[:size])


def random_address(rng: random.Random) -> int:
    if rng.random() < 0.05:
        return rng.getrandbits(64)
    at = BASE + rng.randrange(PAGES) * PAGE
    return (at + rng.choice([0, 8, 0x7F8, 0xFF8, 0xFFC, 0xFFE, rng.randrange(PAGE)])) & MASK


def change(rng: random.Random, space: _core.AddressSpace, file: _core.Pages) -> None:
    """One random operation of the kernel."""
    page = rng.randrange(PAGES)
    count = rng.randrange(1, PAGES - page + 1)
    start, length = BASE + page * PAGE, count * PAGE
    operation = rng.randrange(11)
    if operation == 0:
        space.map(start, length, rng.choice(PERMS))
    elif operation == 1:
        space.unmap(start, PAGE)
    elif operation == 2:
        space.protect(start, length, rng.choice(PERMS))
    elif operation == 3:
        space.discard(start, PAGE)
    elif operation == 4:
        space.write(start, random_text(rng, PAGE), force=rng.random() < 0.8)
    elif operation == 5:
        space.ss_write(start, rng.getrandbits(64))
    elif operation == 6:
        space.map_pages(start, length, rng.choice(FILE_PERMS), file, page * PAGE)
    elif operation == 7:
        file.resize(rng.randrange(PAGES * PAGE))
    elif operation == 8 and file.size > PAGE:
        file.write(rng.randrange(file.size - PAGE), random_text(rng, PAGE))
    elif operation == 9:
        space.populate(start, length, rng.random() < 0.5)
    elif page + 2 * count <= PAGES:
        space.move(start, length, start + length)


def run_one(seed: int, after: int | None = None) -> tuple[int, str]:
    """Run one machine with a few harts and spaces, and check invariants; return the icount and a
    hash of all that could be seen. after: with native code for blocks entered more often."""
    rng = random.Random(seed)
    seen = hashlib.sha256()
    machine = _core.Machine(
        without=[name for name in _core.EXTENSIONS if rng.random() < 0.1],
        trace=rng.randrange(8),
        max_frames=rng.choice([0, 0, 0, 12]),
        native_after=after,
    )
    spaces = [_core.AddressSpace(machine)]
    file = _core.Pages(machine, random_text(rng, rng.randrange(PAGES * PAGE)))
    for page in range(PAGES):
        spaces[0].map(BASE + page * PAGE, PAGE, rng.choice(PERMS))
        spaces[0].write(BASE + page * PAGE, random_text(rng, PAGE), force=True)
    harts = [_core.Hart(machine) for _ in range(2)]
    for hart in harts:
        hart.sse, hart.lpe = rng.random() < 0.7, rng.random() < 0.3
    for _ in range(60):
        hart, space = rng.choice(harts), rng.choice(spaces)
        if rng.random() < 0.3:
            change(rng, space, file)
        if rng.random() < 0.05 and len(spaces) < 6:
            spaces.append(space.fork())
        if rng.random() < 0.05 and len(spaces) > 1:
            spaces.remove(space)
        if rng.random() < 0.6:
            hart.pc = random_address(rng)
            hart.ssp = random_address(rng)
            for i in range(32):
                hart.set_x(i, random_address(rng))
                hart.set_f(i, rng.getrandbits(64))
            if rng.random() < 0.7:
                hart.set_v_csrs(
                    rng.choice([0, 0, 0, 5]),
                    rng.randrange(129),
                    rng.randrange(256),
                    rng.randrange(8),
                )
            for i in range(0, 32, rng.choice([1, 40])):
                hart.set_v(i, rng.choice([rng.randbytes(16), rng.randbytes(1) * 2 + bytes(14)]))
        for _ in range(20):
            before = machine.icount
            budget = rng.choice([0, 1, 3, 50, 2000, 20000])
            stop = hart.run(space, budget, 1, 1)
            attempted = machine.icount - before
            assert attempted <= budget
            assert attempted == budget or stop != _core.STOP_BUDGET
            assert hart.x(0) == 0
            assert hart.ssp % 8 == 0
            assert hart.pc % 2 == 0
            seen.update(repr((stop, machine.icount, hart.fault())).encode() + hart.state())
            if stop == _core.STOP_FAULT:
                assert hart.fault()[0] in CAUSES
            if stop != _core.STOP_BUDGET:  # skip the instruction
                hart.pc += 2 if rng.random() < 0.5 else 4
                hart.elp = False
        if rng.random() < 0.2:
            for table in _core.TABLES:
                for column in machine.drain(table).values():
                    seen.update(column)
    for space in spaces:
        seen.update(space.read(BASE, PAGES * PAGE, force=True) or b"")
    return int(machine.icount), seen.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    seed, instructions = options.seed, 0
    while time.monotonic() < end:
        expected = run_one(seed)
        for after in (0, 1):
            assert run_one(seed, after) == expected, f"seed {seed}, native code after {after}"
        instructions += expected[0]
        seed += 1
    print(f"seeds {options.seed}..{seed - 1}, {instructions} instructions, no failures")


if __name__ == "__main__":
    main()
