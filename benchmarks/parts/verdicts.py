"""`check`: how it grows with pushes and pops, clones, signals and mappings. Seconds without the
execution that makes cfi and flow: the run is judged once before."""

from pathlib import Path

from benchmarks.guests import build
from benchmarks.harness import Bench, Curve, Results, record, run, shstk

AGAIN = Path(__file__).parents[2] / "fixtures/bin/again.elf"  # its threads have shadow stacks
KINDS = {
    "threads": ("clones", (1_000, 10_000, 100_000)),
    "signals": ("signals", (1_000, 10_000, 100_000)),
    "maps": ("mappings", (1_000, 10_000, 100_000)),
}
ROUNDS = (1, 4, 16)  # of fib: pushes and pops


def measure(bench: Bench) -> Results:
    results = Results()
    out = bench.work / "verdicts.run"
    for kind, (title, numbers) in KINDS.items():
        points = []
        for number in numbers[: bench.size(len(numbers), 2)]:
            run(record(AGAIN, kind, str(number), out=out))
            points.append((float(number), _check(bench, results, f"{title}: {number:,}")))
        results.curves.append(Curve(f"check: {title}", title, tuple(points)))
    points = []
    for rounds in ROUNDS[: bench.size(len(ROUNDS), 1)]:
        program = build("fib", bench.work, "start_linux.S", rounds)
        run(record(program, out=out))
        points.append((float(rounds), _check(bench, results, f"fib: {rounds} rounds")))
    results.curves.append(Curve("check: pushes and pops", "rounds of fib", tuple(points)))
    return results


def _check(bench: Bench, results: Results, row: str) -> float:
    command = shstk("check", bench.work / "verdicts.run")
    run(command)
    cost = bench.commands({row: command})[row]
    most = 60.0 if row == "clones: 100,000" else None
    results.add(row, "check", cost.cpu, most=most)
    return cost.cpu
