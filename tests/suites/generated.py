"""Programs that csmith makes from seeds: natively and in the executor, the same checksum.

``python tests/suites/generated.py --seeds 1-200`` runs as many as one likes. The guest is built
with CFI, and CFI is enforced; the optimisation level goes round with the seed. Debian's csmith and
libcsmith-dev are fetched when needed, the native side is the host's cc on x86-64.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # an installed shstk comes first

from cfi_programs import build_and_run, need_compiler
from debian import NotToBeHad, package, unpacked

# Without -O0 and -Os: for each of these ziglang would build a C library of its own.
LEVELS = (("-O1",), ("-O2",), ("-O3",), ("-O1", "-Xclang", "-disable-llvm-passes"))
NATIVE_SECONDS = 2  # csmith's programs need not end: one that takes longer is not run here


@dataclass(frozen=True)
class Generator:
    csmith: Path
    include: Path
    cc: str


@dataclass(frozen=True)
class Comparison:
    """native: None if the program did not end in time."""

    seed: int
    native: str | None
    guest: str

    @property
    def verdict(self) -> str:
        if self.native is None:
            return "endless"
        return "pass" if self.guest == self.native else "different"


def generator() -> Generator:
    """Raises NotToBeHad."""
    need_compiler()
    cc = shutil.which("cc")
    if platform.machine() != "x86_64" or cc is None:
        raise NotToBeHad("the native side wants an x86-64 host with a cc")
    return Generator(
        unpacked(package("csmith")) / "usr/bin/csmith",
        unpacked(package("libcsmith-dev")) / "usr/include/csmith",
        cc,
    )


def compare(tools: Generator, seed: int) -> Comparison:
    with tempfile.TemporaryDirectory() as work:
        source, native, guest = (Path(work) / name for name in ("seed.c", "native", "guest"))
        subprocess.run(
            [tools.csmith, "--seed", str(seed), "--output", source],
            check=True,
            capture_output=True,
            cwd=work,
        )
        includes = f"-I{tools.include}"
        subprocess.run([tools.cc, "-O1", "-w", includes, source, "-o", native], check=True)
        try:
            said = subprocess.run(
                [native], check=True, capture_output=True, text=True, timeout=NATIVE_SECONDS
            ).stdout
        except subprocess.TimeoutExpired:
            return Comparison(seed, None, "")
        outcome = build_and_run([source], (*LEVELS[seed % len(LEVELS)], includes), guest)
        output = outcome.output if outcome.ending == "exited with 0" else f"{outcome}\n"
        return Comparison(seed, said, output)


def run(seeds: Iterable[int]) -> Counter[str]:
    tools, counts = generator(), Counter[str]()
    for seed in seeds:
        result = compare(tools, seed)
        counts[result.verdict] += 1
        if result.verdict == "different":
            print(f"seed {seed}: native {result.native!r}, guest {result.guest!r}", flush=True)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1-100", help="FIRST-LAST (default: %(default)s)")
    first, last = map(int, parser.parse_args().seeds.split("-"))
    counts = run(range(first, last + 1))
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in ("pass", "endless", "different")))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
