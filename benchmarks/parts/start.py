"""What a command costs that has next to nothing to do: fixtures/bin/sc1.elf."""

from benchmarks import ROOT
from benchmarks.harness import Bench, Results, record, run, shstk

GOALS = {
    "--help": 0.05, "exec": 0.1, "record": 0.15, "check": 0.35, "stacks": 0.3, "log": 0.25,
    "replay": 0.3,
}  # fmt: skip


def measure(bench: Bench) -> Results:
    results = Results()
    program, out = ROOT / "fixtures/bin/sc1.elf", bench.work / "hello.run"
    ways = {
        "--help": shstk("--help"),
        "exec": shstk("exec", program),
        "record": record(program, out=out),
        **{name: shstk(name, out) for name in ("check", "stacks", "log", "replay")},
    }
    for command in ways.values():  # writes the .pyc files
        run(command)
    for name, cost in bench.commands(ways).items():
        results.add(name, "CPU", cost.cpu, most=GOALS[name])
        results.add(name, "wall", cost.wall)
    return results
