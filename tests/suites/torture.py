"""gcc's torture tests, built with CFI and run with CFI enforced: each must exit with 0, and no rule
may find anything in one that does.

``python tests/suites/torture.py --all`` runs every one, ``NAME…`` runs some. Debian's
gcc-12-source is fetched when needed; what does not exit with 0 stands, with the reason, in
torture_explained.txt, and a row there that no longer holds is a failure too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # an installed shstk comes first

from cfi_programs import Outcome, build_and_run, need_compiler
from debian import files_of_tarball, package

EXPLAINED = Path(__file__).with_name("torture_explained.txt")
TARBALL = "./usr/src/gcc-12/gcc-12*.tar.xz"
FOLDER = "gcc/testsuite/gcc.c-torture/execute/"
# Options for one target only are left out, and those that tune gcc's passes and mean nothing.
OPTIONS = re.compile(r"dg-(?:additional-)?options((?:(?!target).)*)$", re.MULTILINE)
MEANT = re.compile(
    r"-f(?:wrapv|gnu89-inline|no-inline|no-builtin[\w-]*|instrument-functions|omit-frame-pointer"
    r"|input-charset=[\w-]+|non-call-exceptions|no-strict-overflow|no-strict-aliasing|no-common"
    r"|fast-math)|-std=\w+"
)


@dataclass(frozen=True)
class Row:
    """One row of torture_explained.txt: how the program ends instead, and why that is right."""

    ending: str
    reason: str


def folder() -> Path:
    """The tests' sources. Raises NotToBeHad."""
    need_compiler()
    return files_of_tarball(package("gcc-12-source"), TARBALL, (FOLDER,)) / FOLDER


def names(place: Path) -> list[str]:
    """Every test: those of the folder and of ieee/. The programs under builtins/ are no tests by
    themselves: they test that gcc calls a library of theirs, or that it does not."""
    return sorted(
        str(path.relative_to(place).with_suffix(""))
        for pattern in ("*.c", "ieee/*.c")
        for path in place.glob(pattern)
    )


def explained() -> dict[str, Row]:
    rows = {}
    for line in EXPLAINED.read_text().splitlines():
        if line and not line.startswith("#"):
            name, ending, reason = (part.strip() for part in line.split("|"))
            rows[name] = Row(ending, reason)
    return rows


def flags_of(source: Path) -> tuple[str, ...]:
    text = source.read_text(errors="replace")
    ieee = ("-fno-inline",) if source.parent.name == "ieee" else ()  # as ieee.exp has it
    return ("-O2", *ieee, *MEANT.findall(" ".join(OPTIONS.findall(text))))


def attempt(place: Path, name: str) -> Outcome:
    source = place / f"{name}.c"
    with tempfile.TemporaryDirectory() as work:
        return build_and_run([source], flags_of(source), Path(work) / "test")


def judged(name: str, outcome: Outcome, table: dict[str, Row]) -> str:
    """`pass`, `explained` or `unexplained`."""
    row = table.get(name)
    if outcome.findings:
        return "unexplained"
    if row is None:
        return "pass" if outcome.ending == "exited with 0" else "unexplained"
    return "explained" if outcome.ending == row.ending else "unexplained"


def run(chosen: Iterable[str], jobs: int) -> Counter[str]:
    place, table, counts = folder(), explained(), Counter[str]()
    chosen = list(chosen) or names(place)
    # Not forked: Polars has threads, and a fork copies the locks that they hold.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        outcomes = pool.map(partial(attempt, place), chosen)
        for name, outcome in zip(chosen, outcomes, strict=True):
            verdict = judged(name, outcome, table)
            counts[verdict] += 1
            if verdict == "unexplained":
                expected = table[name].ending if name in table else "exited with 0"
                found = f" | findings: {' '.join(outcome.findings)}" if outcome.findings else ""
                print(f"{name} | {outcome.ending} | expected: {expected}{found}")
                print("    " + "\n    ".join(outcome.output.splitlines()[:6]), flush=True)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="tests, such as 20000112-1 or ieee/inf-1")
    parser.add_argument("--all", action="store_true", help="every test: about half an hour")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if not options.names and not options.all:
        parser.error("name tests, or give --all")
    counts = run(options.names, options.jobs)
    verdicts = ("pass", "explained", "unexplained")
    print(", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts))
    return 1 if counts["unexplained"] else 0


if __name__ == "__main__":
    sys.exit(main())
