"""mm calls, here and on Linux: python tests/differential/mm.py [--seed N] [--count N]

Random mmap, munmap, mprotect, mremap, madvise, msync, mincore and brk, with stores and writes to
the mapped file between them, on 32 pages. Each answer, and what every page holds after it, must be
those of this machine's own kernel, which is to be 6.17 or later: older ones move one area only.
qemu-user is no peer: its mprotect, mremap and madvise are its own.
"""

from __future__ import annotations

import argparse
import platform
import random
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_suffix("").with_name("mm_ops.c")
PAGES, FILE_PAGES, STEPS = 32, 8, 24
OPS = ("done", "map", "map_file", "unmap", "protect", "remap", "advise", "poke", "write_file")
OPS += ("truncate_file", "heap", "sync", "resident")

_SHARED, _PRIVATE, _FIXED, _ANONYMOUS, _NOREPLACE = 1, 2, 16, 32, 0x100000
_MAYMOVE, _TO, _DONTUNMAP = 1, 2, 4
# NORMAL, RANDOM, WILLNEED, DONTNEED, REMOVE, DONTFORK, DOFORK, COLD, POPULATE_READ and _WRITE,
# DONTNEED_LOCKED, GUARD_INSTALL and _REMOVE
_ADVICE = (0, 1, 3, 4, 4, 9, 9, 10, 11, 20, 22, 22, 23, 23, 24, 102, 102, 103)
_REMAPS = (0, _MAYMOVE, *[_MAYMOVE | _TO] * 2, _MAYMOVE | _DONTUNMAP)
_REMAPS += (_MAYMOVE | _TO | _DONTUNMAP,)

Op = tuple[str, tuple[int, ...]]


def steps(rng: random.Random) -> Iterator[Op]:
    """One sequence."""
    for number in range(rng.randrange(6, STEPS)):
        at, count = rng.randrange(PAGES - 6), rng.randrange(1, 7)
        prot = rng.choice((3, 3, 3, 1, 0))
        fixed = rng.choice((_FIXED, _FIXED, _NOREPLACE))
        kind = rng.choice((_SHARED, _PRIVATE, _PRIVATE))
        match rng.randrange(4 if number < 4 else 16):
            case 0 | 1:
                yield "map", (at, count, prot, kind | fixed | _ANONYMOUS)
            case 2 | 3:
                yield "map_file", (at, count, prot, kind | fixed, rng.randrange(FILE_PAGES))
            case 4:
                yield "unmap", (at, count)
            case 5:
                yield "protect", (at, count, prot)
            case 6 | 7 | 8:
                old = count if rng.random() < 0.9 else 0
                new = rng.choice((count, rng.randrange(9)))
                yield "remap", (at, old, new, rng.choice(_REMAPS), rng.randrange(PAGES - 9))
            case 9 | 10:
                yield "advise", (at, count, rng.choice(_ADVICE))
            case 11 | 12:
                yield "poke", (at, rng.randrange(1, 256))
            case 13:
                yield "write_file", (rng.randrange(FILE_PAGES), rng.randrange(1, 256))
            case 14:
                yield "truncate_file", (rng.randrange(FILE_PAGES + 1),)
            case _ if rng.random() < 0.5:
                yield rng.choice(
                    (("sync", (at, count, rng.choice((1, 2, 4, 5)))), ("resident", (at, count)))
                )
            case _:
                yield "heap", (rng.randrange(6),)
    yield "done", ()


def packed(ops: list[Op]) -> bytes:
    return b"".join(
        struct.pack("<6q", OPS.index(name), *(values + (0,) * 5)[:5]) for name, values in ops
    )


class Peers:
    """The program, built for the guest and for the peer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._guest = self._built("riscv64")
        self._peer = self._built(platform.machine())

    def _built(self, machine: str) -> str:
        program = self._directory / f"mm_ops.{machine}"
        compiler = [sys.executable, "-P", "-m", "ziglang", "cc", "-target", f"{machine}-linux-musl"]
        subprocess.run([*compiler, "-static", "-O1", SOURCE, "-o", program], check=True)
        return str(program)

    def answers(self, ops: list[Op]) -> tuple[list[str], list[str]]:
        """Lines: ours, the peer's."""
        file = self._directory / "ops"
        file.write_bytes(packed(ops))
        bind = ["--bind", f"{self._directory}:/ops", self._guest, "/ops/ops"]
        ours = [sys.executable, "-P", "-m", "shstk", "exec", *bind]
        return tuple(  # type: ignore[return-value]
            subprocess.run(
                words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            ).stdout.splitlines()
            for words in (ours, [self._peer, str(file)])
        )

    def differs(self, ops: list[Op]) -> bool:
        ours, theirs = self.answers(ops)
        return ours != theirs

    def smallest(self, ops: list[Op]) -> list[Op]:
        """Fewer steps that still differ."""
        for at in range(len(ops) - 2, -1, -1):
            fewer = ops[:at] + ops[at + 1 :]
            if self.differs(fewer):
                ops = fewer
        return ops


def campaign(peers: Peers, seed: int, count: int) -> Iterator[str]:
    """What differs, as the steps and both answers."""
    sequences = [list(steps(random.Random(f"{seed} {n}"))) for n in range(count)]
    ours, theirs = peers.answers([op for ops in sequences for op in ops])
    at = 0
    for number, ops in enumerate(sequences):
        lines = slice(at, at + len(ops))
        at += len(ops)
        if ours[lines] != theirs[lines]:
            found = peers.smallest(ops)
            told = [f"--seed {seed}, sequence {number}"]
            for op, mine, other in zip(found, *peers.answers(found), strict=False):
                told.append(
                    f"  {op}\n    ours  {mine}" + (f"\n    Linux {other}" if mine != other else "")
                )
            yield "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=500, help="sequences")
    options = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        peers = Peers(Path(directory))
        for failure in campaign(peers, options.seed, options.count):
            failures += 1
            print(failure, flush=True)
    print(f"{options.count} sequences, {failures} differ")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
