"""`check`: how it grows with pushes and pops, clones, signals and mappings."""

from benchmarks.guests import build
from benchmarks.harness import Bench, Curve, Results, record, run, shstk

KINDS = {
    "clone+join": ("clones", (500, 1_000, 2_000, 4_000, 10_000)),
    "signal": ("signals", (1_000, 10_000, 100_000)),
    "mmap+munmap": ("mappings", (1_000, 10_000, 100_000)),
}
ROUNDS = (1, 4, 16)  # of fib: pushes and pops


def measure(bench: Bench) -> Results:
    results = Results()
    calls, out = bench.build("syscalls"), bench.work / "verdicts.run"
    for kind, (title, numbers) in KINDS.items():
        points = []
        for number in numbers[: bench.size(len(numbers), 2)]:
            run(record(calls, kind, str(number), out=out))
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
    cost = bench.commands({row: shstk("check", bench.work / "verdicts.run")})[row]
    most = 60.0 if row.startswith("clones: 10,000") else None
    results.add(row, "check", cost.cpu, most=most)
    return cost.cpu
