"""A recording against the same guest executed: speed by the clock, and bytes of the sealed run."""

import json

from benchmarks.guests import build
from benchmarks.harness import Bench, Results, record, shstk

NAMES = ("fib", "sort", "sha256")
LEVELS = {level: ("--trace", level) for level in ("cfi", "flow", "cfi,flow")} | {"default": ()}


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
        icount = int(json.loads((out["default"] / "manifest.json").read_text())["icount"], 0)
        share = costs["executed"].wall / costs["default"].wall
        results.add(name, "executed / recorded, wall", share, "×", least=0.85)
        results.add(name, "executed", icount / costs["executed"].wall / 1e6, "MIPS")
        for level in LEVELS:
            results.add(name, level, icount / costs[level].wall / 1e6, "MIPS")
        for level, most in (("cfi,flow", None), ("default", 0.02)):
            size = sum(file.stat().st_size for file in out[level].glob("*.parquet"))
            results.add(name, level, size / icount, "bytes/instruction", most=most)
    return results
