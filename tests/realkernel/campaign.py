"""Every fixture under our model of 7.2 and on the real 7.2: what differs, and what the rules find
in one of the two alone.

``python tests/realkernel/campaign.py`` compares with the events that are recorded in `events/`, two
minutes in all; ``--live`` boots the kernel for each (a quarter of an hour). ``NAME…`` takes some of
recorded.py, and a file (an ELF, or a .c that zig compiles) is one more program, always live. The
exit code is 1 if anything differs that differences.py does not excuse.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from differences import EXCUSED, NO_EXCUSE, Excuse
from machine import machine
from record_events import record as record_live
from recorded import RECORDED, Recorded

import shstk
from shstk.replay.check import check
from shstk.replay.diff.report import text
from shstk.replay.run import Run
from shstk.schemas.tables import DERIVABLE


def real(r: Recorded, out: Path) -> Run:
    """The run that the recorded events make."""
    return Run.open(shstk.import_qemu(r.file, out, executable=r.path).path)


def model(r: Recorded, out: Path) -> Run:
    made = shstk.record(r.path, *r.args, out=out, trace=DERIVABLE, **r.options)
    return Run.open(made.path)


def differences(a: Run, b: Run, excuse: Excuse = NO_EXCUSE) -> Iterator[str]:
    """What the model's run `a` and the real kernel's `b` do differently."""
    compared = shstk.diff(a, b, ignore=excuse.ignore)
    if not compared.same:
        yield text(compared)
    ours, theirs = (Counter(check(run).violated["rule"]) for run in (a, b))
    for rule in sorted({*ours, *theirs} - {*excuse.findings}):
        if ours[rule] != theirs[rule]:
            yield f"{rule}: violated {ours[rule]} times in the model, {theirs[rule]} times really"


def compared(r: Recorded, live: bool, work: Path) -> list[str]:
    if live:
        record_live(r, machine(r.qemu), work / "real.run")
        theirs = Run.open(work / "real.run")
    else:
        theirs = real(r, work / "real.run")
    return list(differences(model(r, work / "model.run"), theirs, EXCUSED.get(r.name, NO_EXCUSE)))


def program(given: str, work: Path) -> Recorded:
    """A row of recorded.py, or a program of the user's."""
    if given in RECORDED:
        return RECORDED[given]
    path = Path(given).resolve()
    if path.suffix == ".c":
        built = work / path.stem
        flags = ("-target", "riscv64-linux-musl", "-static", "-O1", "-w")
        zig = (sys.executable, "-P", "-m", "ziglang", "cc")
        subprocess.run([*zig, *flags, str(path), "-o", str(built)], check=True)
        path = built
    return Recorded(path.stem, str(path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME|PROGRAM")
    parser.add_argument("--live", action="store_true", help="boot the real kernel")
    options = parser.parse_args()
    wrong = 0
    for given in options.names or [name for name, r in RECORDED.items() if not r.kernel]:
        with tempfile.TemporaryDirectory() as work:
            r = program(given, Path(work))
            live = options.live or r.name not in RECORDED
            found = compared(r, live, Path(work))
        excused = f" (excused: {EXCUSED[r.name].reason})" if r.name in EXCUSED else ""
        print(
            f"{r.name}: {'differs' if found else 'the same'}{excused}",
            *found,
            sep="\n    ",
            flush=True,
        )
        wrong += bool(found)
    print(f"{wrong} programs differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
