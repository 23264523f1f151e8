"""Executing again, and windows: python benchmarks/windows.py [--windows N] [NAME...]

The guests of benchmarks/guests are recorded, held against their record by `shstk replay`, and
windows of 1,000 instructions are looked at at random places: first without any checkpoint, then
with those that the first look at the run's end has left. MIPS are millions of guest instructions
per CPU second; windows are CPU seconds each, the median and the longest.
"""

import argparse
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from executor import build

from shstk.replay.run import Run
from shstk.rerun.compare import replay
from shstk.rerun.window import window
from shstk.schemas.seq import STEPS
from shstk.tracer.record import RecordOptions, record

NAMES = ("fib", "sort", "sha256")
LENGTH = 1000


def look(run: Run, begin: int, cache: Path) -> float:
    """Seconds for one window."""
    started = time.process_time()
    frames = window(run, begin * STEPS, (begin + LENGTH - 1) * STEPS, cache=cache)
    assert sum(frame.height for frame in frames) == LENGTH
    return time.process_time() - started


def measure(name: str, directory: Path, windows: int) -> None:
    program = build(name, directory, "start_linux.S")
    started = time.process_time()
    out = record(RecordOptions(str(program), out=directory / f"{name}.run")).path
    recorded = time.process_time() - started
    run = Run.open(out)
    end = run.manifest.icount

    started = time.process_time()
    assert replay(run).disagreement is None
    held = time.process_time() - started

    places = [random.Random(i).randrange(1, end - LENGTH) for i in range(windows)]
    cold = [look(run, begin, directory / f"cold {begin}") for begin in places[:3]]
    first = look(run, end - LENGTH, directory / "cache")
    warm = [look(run, begin, directory / "cache") for begin in places]
    kept = [file.stat().st_size for file in (directory / "cache").rglob("*") if file.is_file()]
    shutil.rmtree(directory / "cache")
    print(
        f"{name:8}{end / 1e6:8.0f} M{end / recorded / 1e6:9.0f}{end / held / 1e6:9.0f}"
        f"{statistics.median(cold):9.2f}{first:9.2f}"
        f"{statistics.median(warm):9.2f}{max(warm):9.2f}{len(kept):7}{sum(kept) / 1e6:9.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    print(
        f"{'guest':8}{'insns':>10}{'record':>9}{'replay':>9}{'cold':>9}{'last':>9}"
        f"{'warm':>9}{'longest':>9}{'kept':>7}{'MB':>9}"
    )
    with tempfile.TemporaryDirectory() as directory:
        for name in options.names:
            measure(name, Path(directory), options.windows)


if __name__ == "__main__":
    main()
