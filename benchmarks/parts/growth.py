"""What grows with threads alive, with threads one after another, with areas and descriptors."""

from benchmarks.harness import Bench, Curve, Results, record, shstk

KINDS = {
    "alive": ("threads alive", (250, 500, 1_000, 2_000, 4_000)),
    "clone+join": ("threads one after another", (1_000, 2_000, 4_000, 8_000, 16_000)),
    "areas": ("areas", (2_000, 4_000, 8_000, 16_000, 32_000)),
    "files": ("descriptors", (100, 250, 500, 1_000)),
}


def measure(bench: Bench) -> Results:
    results = Results()
    program, out = bench.build("syscalls"), bench.work / "growth.run"
    for kind, (title, numbers) in KINDS.items():
        points: dict[str, list[tuple[float, float]]] = {"executed": [], "recorded": []}
        for number in numbers[: bench.size(len(numbers), 2)]:
            ways = {
                "executed": shstk("exec", "--rlimit", "NPROC=16384", program, kind, str(number)),
                "recorded": record(
                    program, kind, str(number), out=out, options=("--rlimit", "NPROC=16384")
                ),
            }
            for way, cost in bench.commands(ways).items():
                results.add(f"{title}: {number:,}", way, cost.cpu)
                points[way].append((number, cost.cpu))
        results.curves += [Curve(f"{way}: {title}", title, tuple(p)) for way, p in points.items()]
    return results
