"""What a run of many costs grows with what it holds: the lines of Python that judging it executes.

Counted, not timed: a loop over all of something for each of something shows as a square.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from shstk.replay.check import check
from shstk.replay.explain import explain
from shstk.replay.run import Run
from shstk.replay.stacks import stacks
from shstk.replay.views import VIEWS
from shstk.tracer.record import RecordOptions, record

GUEST = Path(__file__).parents[2] / "fixtures" / "bin" / "again.elf"
FEW, MANY = 20, 80

ASKED: dict[str, Callable[[Run], Any]] = {
    "check": check,
    "stacks": stacks,
    "explain-fault": lambda run: explain(run, every=True),
    "fault_causes": VIEWS["fault_causes"].build,
    "slots": VIEWS["slots"].build,
    "ssp_path": VIEWS["ssp_path"].build,
    "frames": VIEWS["frames"].build,
}


def lines(ask: Callable[[Run], Any], path: Path) -> int:
    """How many lines of replay's Python a question executes, each turn of a loop counted."""
    run, count = Run.open(path), 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if event == "call" and "/replay/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        ask(run)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "what", ["threads", "forks", "spawns", "signals", "maps", "faults", "mismatches"]
)
def test_growth(what: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{count}.run" for count in (1, FEW, MANY)]
    for path, count in zip(paths, (1, FEW, MANY), strict=True):
        record(RecordOptions(program=str(GUEST), argv=(what, str(count)), out=path))
    for name, ask in ASKED.items():
        one, few, many = (lines(ask, path) for path in paths)
        ratio = (many - one) / max(few - one, 1)
        assert ratio < 1.3 * MANY / FEW, f"{name}: {one}, {few}, {many} lines"
