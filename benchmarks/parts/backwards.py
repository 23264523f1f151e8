"""Going backwards over a whole run, from its end. CPU seconds.

`reverse-continue` looks for what is nowhere, so that it passes every instruction: with nothing set,
a breakpoint, a watchpoint on a word of the page that the shadow stack is on, and one on a word of
the stack's page. Then come `reverse-stepi`s, near the end.
"""

from collections.abc import Callable

from benchmarks.guests import build
from benchmarks.harness import Bench, Results, cost
from shstk.gdb.target import Point, Target
from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

NAMES = ("fib", "sort", "sha256")
STEPS_BACK = 50
BREAK, WATCH = 0, 2
COLUMNS = ("forward", "back", "breakpoint", "shadow stack's page", "stack's page", "step")


def measure(bench: Bench) -> Results:
    results = Results()
    for name in NAMES[: bench.size(3, 1)]:
        bench.say(name)
        _one(name, bench, results)
    return results


def _seconds(act: Callable[[], object]) -> float:
    return cost(act).cpu


def _one(name: str, bench: Bench, results: Results) -> None:
    directory = bench.work
    program = build(name, directory, "start_linux.S")
    options = RecordOptions(
        str(program), out=directory / f"{name}.back.run", force=True, tier="auto"
    )
    run = Run.open(record(options).path)
    target = Target(run, lambda: False, "auto", directory / f"cache {name}")
    pid = target.record.first_pid
    forward = _seconds(target.forward)
    end = target.place
    task = target.task(pid)
    assert task is not None
    # Words that nothing writes to: below both stacks, but on a page that is written to.
    ssp, sp = task.hart.ssp, task.hart.x(2)
    unused = (ssp - 8) & ~0xFFF
    points = (
        (),
        (Point(pid, BREAK, 0xFFE, 4),),
        (Point(pid, WATCH, unused, 8),),
        (Point(pid, WATCH, (sp - 8) & ~0xFFF, 8),),
    )
    back = []
    for chosen in points:
        target.guest.go(end)
        target.points = set(chosen)
        back.append(_seconds(target.backward))
        assert target.place == 0, "something was found"
    target.points = set()
    target.guest.go(end)
    steps = _seconds(lambda: [target.backward(pid) for _ in range(STEPS_BACK)])
    values = (forward, *back, steps / STEPS_BACK)
    for column, value in zip(COLUMNS, values, strict=True):
        results.add(name, column, value)
