"""A recording against the same guest executed: speed by the clock, and bytes of the sealed run."""

import json

from benchmarks.guests import build
from benchmarks.harness import Bench, Results, record, shstk

NAMES = ("fib", "sort", "sha256")
LEVELS = {"cfi": ("--trace", "cfi"), "flow": ("--trace", "flow"), "cfi,flow": ()}


def measure(bench: Bench) -> Results:
    results = Results()
    for name in NAMES:
        program = build(name, bench.work, "start_linux.S", bench.size(5, 1))
        out = {level: bench.work / f"{name} {level}.run" for level in LEVELS}
        ways = {"executed": shstk("exec", program)}
        ways |= {level: record(program, out=out[level], options=o) for level, o in LEVELS.items()}
        costs = bench.commands(ways)
        for way, cost in costs.items():
            results.add(name, f"{way}, CPU", cost.cpu)
            results.add(name, f"{way}, wall", cost.wall)
        run = out["cfi,flow"]
        icount = int(json.loads((run / "manifest.json").read_text())["icount"])
        size = sum(file.stat().st_size for file in run.glob("*.parquet"))
        share = costs["executed"].wall / costs["cfi,flow"].wall
        results.add(name, "executed / recorded, wall", share, "×", least=0.6)
        results.add(name, "executed", icount / costs["executed"].wall / 1e6, "MIPS")
        for level in LEVELS:
            results.add(name, level, icount / costs[level].wall / 1e6, "MIPS")
        results.add(name, "size", size / icount, "bytes/instruction", most=0.02)
    return results
