"""Going backwards over a whole run: python benchmarks/backwards.py [NAME...]

The guests of benchmarks/guests are recorded. From the end of each `reverse-continue` looks for what
is nowhere, so that it passes every instruction: with nothing set, a breakpoint, a watchpoint on a
word of the page that the shadow stack is on, and one on a word of the stack's page. Then come
`reverse-stepi`s, near the end. CPU seconds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from executor import build

from shstk.gdb.target import Point, Target
from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

NAMES = ("fib", "sort", "sha256")
STEPS_BACK = 50
BREAK, WATCH = 0, 2


def seconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def measure(name: str, directory: Path) -> None:
    program = build(name, directory, "start_linux.S")
    options = RecordOptions(str(program), out=directory / f"{name}.run", tier="auto")
    run = Run.open(record(options).path)
    target = Target(run, lambda: False, "auto", directory / f"cache {name}")
    pid = target.record.first_pid
    forward = seconds(target.forward)
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
        back.append(seconds(target.backward))
        assert target.place == 0, "something was found"
    target.points = set()
    target.guest.go(end)
    steps = seconds(lambda: [target.backward(pid) for _ in range(STEPS_BACK)])
    shown = "".join(f"{each:9.2f}" for each in (forward, *back, steps / STEPS_BACK))
    print(f"{name:8}{end / 1e6:8.0f} M{shown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    heads = ("forward", "back", "break", "ss page", "sp page", "step")
    print(f"{'guest':8}{'insns':>10}" + "".join(f"{head:>9}" for head in heads))
    with tempfile.TemporaryDirectory() as directory:
        for name in parser.parse_args().names:
            measure(name, Path(directory))


if __name__ == "__main__":
    main()
