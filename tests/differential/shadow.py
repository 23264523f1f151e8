"""mm calls on shadow stacks: python tests/differential/shadow.py [--seed N] [--count N]

Random map_shadow_stack, mmap, munmap, mprotect, mremap, madvise, mlock, mseal, brk and fork on 24
pages, with ordinary and shadow-stack accesses between them. Each answer, what every page holds
after it, and at the end what smaps says of each page and how it answers every access, must be as
shadow_pages.py says. mm.py does the same for ordinary memory, where a real kernel is the peer.
"""

from __future__ import annotations

import argparse
import copy
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import shadow_pages
from shadow_pages import PAGE, PAGES, Pages, Unknown

SOURCE = Path(__file__).with_name("shadow_ops.c")
STEPS = 24
OPS = ("done", "shadow", "map", "unmap", "protect", "remap", "advise", "lock", "unlock", "seal")
OPS += ("swap", "store", "load", "fork_", "heap")
# Of a revision: whether map_shadow_stack returns the token's address.
KERNELS = {"7.2": False, "7.2,map_token_returns=token": True}

_m = shadow_pages
_MAPS = (_m.FIXED, _m.FIXED, _m.NOREPLACE, 0, 0)
_SIZES = (0, 4, 8, 0x1004, 0x1008, 2**62, 2**64 - PAGE, 2**64 - 1)
_ADVICE = (_m.DONTNEED, _m.DONTNEED, _m.FREE, _m.REMOVE, _m.COLD, _m.PAGEOUT, _m.DONTNEED_LOCKED)
_ADVICE += (_m.DONTFORK, _m.DOFORK, _m.WIPEONFORK, _m.KEEPONFORK)
_ADVICE += (_m.POPULATE_READ, _m.POPULATE_WRITE, *[_m.GUARD_INSTALL] * 3, *[_m.GUARD_REMOVE] * 2)
_REMAPS = (0, *[_m.MAYMOVE] * 2, *[_m.MAYMOVE | _m.TO] * 3, _m.MAYMOVE | _m.DONTUNMAP)
_REMAPS += (_m.MAYMOVE | _m.TO | _m.DONTUNMAP,)

_TOLD = {"rd", "wr", "ex", "sh", "ss", "lo", "lf", "dc", "wf", "sl"}  # of an area, by smaps

Op = tuple[str, tuple[int, ...]]


def _step(rng: random.Random, start: bool) -> Op:
    at, count = rng.randrange(PAGES - 6), rng.randrange(1, 7)
    number = rng.randrange(1, 1 << 32)
    match rng.randrange(6 if start else 26):
        case 0 | 1 | 2 | 3:
            size = count * PAGE if rng.random() < 0.8 else rng.choice(_SIZES)
            return "shadow", (at, size, rng.choice((0, 1, 1, 1, 2, 1 << 32, 1 << 32 | 1)))
        case 4 | 5:
            kind = rng.choice((_m.PRIVATE, _m.PRIVATE, _m.SHARED)) | _m.ANONYMOUS
            return "map", (at, count, rng.choice((3, 3, 1, 5, 0)), kind | rng.choice(_MAPS))
        case 6 | 7:
            return "unmap", (at, count)
        case 8 | 9 | 10:
            return "protect", (at, count, rng.choice((0, 1, 2, 3, 3, 3, 4, 5, 7)))
        case 11 | 12 | 13 | 14:
            old = count if rng.random() < 0.95 else 0
            new = rng.choice((count, rng.randrange(9)))
            return "remap", (at, old, new, rng.choice(_REMAPS), rng.randrange(PAGES - 9))
        case 15 | 16 | 17:
            return "advise", (at, count, rng.choice(_ADVICE))
        case 18:
            return "lock", (at, count, rng.randrange(2))
        case 19:
            return "unlock", (at, count)
        case 20:
            return ("seal", (at, 1)) if rng.random() < 0.3 else ("heap", (rng.randrange(9),))
        case 21:
            return "fork_", (at, number)
        case 22 | 23 | 24:
            return "swap", (at, rng.randrange(2), number)
        case _:
            return rng.choice(("store", "load")), (at, rng.randrange(2), number)


def steps(rng: random.Random) -> list[Op]:
    """One sequence, without what the model does not know."""
    pages, found = Pages(1 << 32), []
    for number in range(rng.randrange(6, STEPS)):
        op = _step(rng, number < 3)
        before = copy.deepcopy(pages)
        try:
            pages.answer(*op)
            found.append(op)
        except Unknown:
            pages = before
    return found


def expected(window: int, ops: list[Op], token_returned: bool) -> list[str]:
    """What shadow_ops.c should print. Of the last line, areas are told page by page."""
    pages = Pages(window, token_returned)
    lines = [pages.answer(*op) for op in ops]
    told = [" ".join(sorted(flags)) if flags is not None else "." for flags in pages.areas()]
    return [*lines, ", ".join(told) + ";" + pages.all_accesses()]


def _by_pages(line: str) -> str:
    """The last line of a sequence, as expected() writes it."""
    *areas, accesses = line.split(";")
    told = ["."] * PAGES
    for area in areas:
        first, end, flags = re.fullmatch(r"(\d+)-(\d+) (.*)", area).groups()  # type: ignore[union-attr]
        known = set(flags.split()) & _TOLD
        told[int(first) : int(end)] = [" ".join(sorted(known))] * (int(end) - int(first))
    return ", ".join(told) + ";" + accesses


class Program:
    """shadow_ops.c, under a kernel."""

    def __init__(self, directory: Path, kernel: str) -> None:
        self._directory, self.kernel = directory, kernel
        self._program = directory / "shadow_ops"
        compiler = (sys.executable, "-P", "-m", "ziglang", "cc", "-target", "riscv64-linux-musl")
        subprocess.run([*compiler, "-static", "-O1", SOURCE, "-o", self._program], check=True)

    def answers(self, sequences: Iterable[list[Op]]) -> tuple[int, list[str]]:
        """The address of the pages, and the lines of all sequences."""
        file = self._directory / "ops"
        packed = b"".join(_packed(op) for ops in sequences for op in [*ops, ("done", ())])
        file.write_bytes(packed)
        words = [sys.executable, "-P", "-m", "shstk", "exec", "--kernel", self.kernel]
        words += ["--bind", f"{self._directory}:/ops", str(self._program), "/ops/ops"]
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        first, *lines = done.stdout.splitlines()
        return int(first, 16), lines

    def wrong(self, ops: list[Op]) -> list[str]:
        """The first answer that differs, and what was done."""
        window, lines = self.answers([ops])
        return _difference(window, ops, lines, KERNELS[self.kernel])

    def smallest(self, ops: list[Op]) -> list[Op]:
        """Fewer steps that still differ."""
        for at in range(len(ops) - 1, -1, -1):
            fewer = ops[:at] + ops[at + 1 :]
            try:
                if self.wrong(fewer):
                    ops = fewer
            except Unknown:
                continue
        return ops


def _packed(op: Op) -> bytes:
    name, values = op
    return struct.pack("<6Q", OPS.index(name), *(values + (0,) * 5)[:5])


def _difference(window: int, ops: list[Op], lines: list[str], token_returned: bool) -> list[str]:
    wanted = expected(window, ops, token_returned)
    got = [*lines[:-1], _by_pages(lines[-1])] if len(lines) == len(wanted) else lines
    for number, want in enumerate(wanted):
        have = got[number] if number < len(got) else "(nothing)"
        if have != want:
            done = [f"  {op}" for op in ops[: number + 1]]
            return [*done, f"    shstk {have}", f"    pages {want}"]
    return []


def campaign(program: Program, seed: int, count: int) -> Iterator[str]:
    """What differs, as the steps and both answers."""
    sequences = [steps(random.Random(f"{seed} {n}")) for n in range(count)]
    window, lines = program.answers(sequences)
    at = 0
    for number, ops in enumerate(sequences):
        mine = lines[at : at + len(ops) + 1]
        at += len(mine)
        if _difference(window, ops, mine, KERNELS[program.kernel]):
            told = program.wrong(program.smallest(ops)) or ["  not alone"]
            yield "\n".join([f"--seed {seed}, sequence {number}, --kernel {program.kernel}", *told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=500, help="sequences for each kernel")
    options = parser.parse_args()
    failures = 0
    for kernel in KERNELS:
        with tempfile.TemporaryDirectory() as directory:
            program = Program(Path(directory), kernel)
            for failure in campaign(program, options.seed, options.count):
                failures += 1
                print(failure, flush=True)
    print(f"{options.count} sequences, {failures} differ")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
