"""Instructions per second with plugins: python benchmarks/plugins.py [--repeat N] [NAME...]

The guests of benchmarks/guests are run and recorded (cfi and flow) with no plugin, with one that
wants nothing but system calls, and with each that comes with shstk. Figures are millions of guest
instructions per second of CPU time (of all threads), medians of N runs that take turns.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from executor import build

from shstk.plugin import Plugin, Syscall
from shstk.plugins import SHIPPED
from shstk.plugins.loading import load
from shstk.tracer.record import RecordOptions, record

NAMES = ("fib", "sort", "sha256")
LIMIT = 20_000_000  # instructions


class Calls(Plugin):
    """What a plugin costs that wants no batches."""

    def on_syscall(self, call: Syscall) -> None:
        pass


def measure(program: Path, out: Path, plugins: tuple[Plugin, ...]) -> float:
    began = time.process_time()
    result = record(RecordOptions(str(program), out=out, plugins=plugins, max_instructions=LIMIT))
    seconds = time.process_time() - began
    shutil.rmtree(result.path)
    return result.icount / seconds / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    variants = {"none": None, "calls only": Calls, **{n: n for n in SHIPPED}}
    figures: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        programs = {n: build(n, Path(directory), "start_linux.S") for n in options.names}
        for _ in range(options.repeat):
            for label, plugin in variants.items():
                for name, program in programs.items():
                    made = (
                        () if plugin is None else (plugin() if callable(plugin) else load(plugin),)
                    )
                    figures.setdefault((label, name), []).append(
                        measure(program, Path(directory) / "run", made)
                    )
    print(f"| plugin | {' | '.join(options.names)} |\n|---|{'--:|' * len(options.names)}")
    for label in variants:
        cells = (f"{statistics.median(figures[label, name]):.0f}" for name in options.names)
        print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
