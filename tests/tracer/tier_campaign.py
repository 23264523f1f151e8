"""Runs made by native code and by the interpreter, compared byte for byte. By hand:

python tests/tracer/tier_campaign.py --seconds 600 [--seed N]  # random programs
python tests/tracer/tier_campaign.py --programs                # fixtures, Debian's programs
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tracer"))
sys.path.insert(0, str(Path(__file__).parents[1] / "differential"))

import random_guest
from both import COMMANDS, ENVIRONMENT, lay_out
from riscv_root import cached
from tier_runs import differing

FIXTURES = Path(__file__).parents[2] / "fixtures/bin"
INSTRUCTIONS = 400_000_000


def random_programs(seed: int, seconds: float) -> Iterator[tuple[str, set[str]]]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rng = random.Random(seed)
        quanta = ((1, 30), (rng.randrange(30, 500), rng.randrange(500, 3000)))
        with tempfile.TemporaryDirectory() as work:
            guest = Path(work, "guest")
            guest.write_bytes(random_guest.program(seed))
            for quantum in quanta:
                folder = Path(work, str(quantum[0]))
                yield f"{seed} at {quantum}", differing(guest, folder, quantum=quantum, seed=seed)
        seed += 1


def programs() -> Iterator[tuple[str, set[str]]]:
    for program in sorted(FIXTURES.glob("*.elf")):
        for kernel in ("v3", "7.2"):
            with tempfile.TemporaryDirectory() as work:
                yield f"{program.name} on {kernel}", differing(program, Path(work), kernel=kernel)
    root = cached()
    if not root.exists():
        return
    for name, command in COMMANDS.items():
        with tempfile.TemporaryDirectory() as work:
            files = Path(work, "files")
            lay_out(command, files)
            yield (
                name,
                differing(
                    Path("/usr/bin", command.run[0]),
                    Path(work),
                    argv=tuple(command.run[1:]),
                    root=root,
                    binds=((files, "/work", False),),
                    cwd="/work",
                    env={**ENVIRONMENT, "PATH": "/usr/bin:/bin"},
                    stdin=command.stdin.encode(),
                    max_instructions=INSTRUCTIONS,
                ),
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--programs", action="store_true")
    options = parser.parse_args()
    compared = wrong = 0
    found = programs() if options.programs else random_programs(options.seed, options.seconds)
    for name, names in found:
        compared += 1
        wrong += bool(names)
        if names:
            print(f"{name}: {', '.join(sorted(names))} differ", flush=True)
    print(f"{compared} runs compared, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
