"""Recorded (cfi and flow) with no plugin, with one that wants system calls only, and with each that
comes with shstk: millions of guest instructions per CPU second.
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.guests import build
from benchmarks.harness import Bench, Cost, Results, cost
from shstk.plugin import Plugin, Syscall
from shstk.plugins import SHIPPED
from shstk.plugins.loading import load
from shstk.tracer.record import RecordOptions, record

NAMES = ("fib", "sort", "sha256")


class Calls(Plugin):
    """What a plugin costs that wants no batches."""

    def on_syscall(self, call: Syscall) -> None:
        pass


def measure(bench: Bench) -> Results:
    results = Results()
    limit = bench.size(20_000_000, 1_000_000)  # instructions
    makers: dict[str, Callable[[], tuple[Plugin, ...]]] = {
        "none": tuple,
        "calls only": lambda: (Calls(),),
        **{name: lambda name=name: (load(name),) for name in SHIPPED},  # type: ignore[misc]
    }
    for name in NAMES:
        program = build(name, bench.work, "start_linux.S")

        def run(make: Callable[[], tuple[Plugin, ...]], program: Path = program) -> Cost:
            options = RecordOptions(
                str(program),
                out=bench.work / "plugins.run",
                force=True,
                plugins=make(),
                max_instructions=limit,
            )
            return cost(lambda: record(options))

        ways = {label: lambda make=make: run(make) for label, make in makers.items()}  # type: ignore[misc]
        for label, spent in bench.turns(ways).items():
            results.add(label, name, limit / spent.cpu / 1e6, "MIPS")
    return results
