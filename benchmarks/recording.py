"""Instructions per second while recording: python benchmarks/recording.py [--repeat N] [NAME...]

The guests of benchmarks/guests are run and recorded through `tracer.record`, all of it: the kernel
model, Parquet on disk, hashes, sealing. Figures are millions of guest instructions per second of
wall-clock time (and of CPU time of both threads), medians of N runs; levels take turns, so that the
load of the machine is the same for all. Bytes are those of the sealed run, per instruction.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from executor import build

from shstk.tracer.record import RecordOptions, record

LEVELS = {
    "none": frozenset[str](),
    "cfi": frozenset({"cfi"}),
    "flow": frozenset({"flow"}),
    "cfi+flow": frozenset({"cfi", "flow"}),
}
NAMES = ("fib", "sort", "sha256")


def measure(program: Path, out: Path, trace: frozenset[str]) -> tuple[float, float, float]:
    """MIPS by the clock, MIPS by CPU time, bytes an instruction."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = record(RecordOptions(str(program), out=out, trace=trace))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    size = sum(file.stat().st_size for file in result.path.glob("*.parquet"))
    shutil.rmtree(result.path)
    return result.icount / wall / 1e6, result.icount / cpu / 1e6, size / result.icount


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    print(f"{'guest':8}{'trace':10}{'MIPS':>8}{'MIPS/CPU':>10}{'bytes/insn':>12}")
    with tempfile.TemporaryDirectory() as directory:
        for name in options.names:
            program = build(name, Path(directory), "start_linux.S")
            runs: dict[str, list[tuple[float, float, float]]] = {level: [] for level in LEVELS}
            for _ in range(options.repeat):
                for level, trace in LEVELS.items():
                    runs[level].append(measure(program, Path(directory) / "run", trace))
            for level, figures in runs.items():
                wall, cpu, size = (statistics.median(f) for f in zip(*figures, strict=True))
                print(f"{name:8}{level:10}{wall:8.0f}{cpu:10.0f}{size:12.3f}", flush=True)


if __name__ == "__main__":
    main()
