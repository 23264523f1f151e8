"""Instructions per second while recording: python benchmarks/recording.py [--repeat N] [NAME...]

The guests of benchmarks/guests do their work --rounds times, and are recorded through
`tracer.record`, all of it: the kernel model, Parquet on disk, hashes, sealing; `untraced` only runs
them, and `first read` executes a recorded one again for its cfi and flow tables. Figures are
millions of guest instructions per second of wall-clock time (and of CPU time of all threads),
medians of N runs; levels take turns, so that the load of the machine is the same for all. Bytes are
those of the sealed run, or of the derived tables, per instruction.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from executor import build

import shstk
from shstk.schemas.tables import DEFAULT_TRACE, DERIVABLE
from shstk.tracer.guest import execute
from shstk.tracer.options import TIERS, GuestOptions
from shstk.tracer.record import RecordOptions, record

LEVELS = {
    "untraced": None,
    "default": frozenset(DEFAULT_TRACE),
    "first read": frozenset[str](),
    "cfi": frozenset({"cfi"}),
    "flow": frozenset({"flow"}),
    "cfi+flow": frozenset({"cfi", "flow"}),
}
NAMES = ("fib", "sort", "sha256")


def measure(program: Path, out: Path, level: str, tier: str) -> tuple[float, float, float]:
    """MIPS by the clock, MIPS by CPU time, bytes an instruction."""
    trace = LEVELS[level]
    if level == "first read":
        record(RecordOptions(str(program), out=out, trace=frozenset(), tier=tier))
    cpu, wall = time.process_time(), time.perf_counter()
    if trace is None:
        icount = execute(GuestOptions(str(program), tier=tier)).icount
    elif level == "first read":
        run = shstk.open(out, cache=out.with_name("cache"))
        run.prepare(DERIVABLE)
        icount = run.manifest.icount
    else:
        icount = record(RecordOptions(str(program), out=out, trace=trace, tier=tier)).icount
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    where = out.with_name("cache") if level == "first read" else out
    size = sum(file.stat().st_size for file in where.rglob("*.parquet"))
    for made in (out, out.with_name("cache")):
        shutil.rmtree(made, ignore_errors=True)
    return icount / wall / 1e6, icount / cpu / 1e6, size / icount


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--tier", choices=TIERS, default="auto")
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    print(f"{'guest':8}{'trace':12}{'MIPS':>8}{'MIPS/CPU':>10}{'bytes/insn':>12}")
    with tempfile.TemporaryDirectory() as directory:
        for name in options.names:
            program = build(name, Path(directory), "start_linux.S", options.rounds)
            runs: dict[str, list[tuple[float, float, float]]] = {level: [] for level in LEVELS}
            for _ in range(options.repeat):
                for level in LEVELS:
                    out = Path(directory) / "run"
                    runs[level].append(measure(program, out, level, options.tier))
            for level, figures in runs.items():
                wall, cpu, size = (statistics.median(f) for f in zip(*figures, strict=True))
                print(f"{name:8}{level:12}{wall:8.0f}{cpu:10.0f}{size:12.3f}", flush=True)


if __name__ == "__main__":
    main()
