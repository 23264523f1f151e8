"""Single bits that flip: python tests/hostile/bit_flips.py [--flips N] [--seed N]

Whichever file and bit it is, `verify` must say that the run is damaged, and no command judges it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from telling import tell

import shstk
from shstk.__main__ import run as shstk_command

PROGRAM = Path(__file__).parents[2] / "fixtures/bin/signals.elf"
JUDGES = ("verify", "check", "stacks", "log", "replay")


def code_of(command: str, run: Path) -> int:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return shstk_command([command, str(run)])


def campaign(run: Path, seed: int, flips: int) -> Iterator[str]:
    """What was not noticed. The run is as it was when it is done."""
    rng = random.Random(seed)
    files = sorted(path for path in run.rglob("*") if path.is_file())
    for number in range(flips):
        file = files[number % len(files)]
        intact = file.read_bytes()
        at, bit = rng.randrange(len(intact)), rng.randrange(8)
        changed = bytearray(intact)
        changed[at] ^= 1 << bit
        file.write_bytes(changed)
        for command in ("verify", rng.choice(JUDGES)):
            code = code_of(command, run)
            if code != 3:
                where = f"bit {bit} of byte {at} of {file.relative_to(run)}"
                yield f"{where}: {command} ends with exit code {code}"
        file.write_bytes(intact)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--flips", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        program = shutil.copy(PROGRAM, directory)
        run = shstk.record(program, out=directory / "p.run", trace=("cfi", "flow")).path
        tell(campaign(run, options.seed, options.flips), f"{options.flips} flips")


if __name__ == "__main__":
    main()
