"""What a call costs does not grow with how many threads or files there are: lines of Python
that are executed, counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from direct import Direct

from shstk.schemas.uapi import constants
from shstk.tracer.kernel.process.exit import do_exit

FEW, MANY = 150, 600
THREAD = sum(
    constants("CLONE_")[f"CLONE_{name}"] for name in ("VM", "FS", "FILES", "SIGHAND", "THREAD")
)


def lines(act: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return count


def threads(at: Direct, number: int) -> None:
    made = [at.clone(THREAD) for _ in range(number)]
    for t in made:
        do_exit(at.k, t, 0)


def files(at: Direct, number: int) -> None:
    for fd in [at.call("dup", 1) for _ in range(number)]:
        at.call("close", fd)


@pytest.mark.parametrize("many", [threads, files])
def test_many_cost_as_much_each_as_few(many: Callable[[Direct, int], None]) -> None:
    counts = []
    for number in (FEW, MANY):
        at = Direct()
        counts.append(lines(lambda at=at, number=number: many(at, number)))  # type: ignore[misc]
    few, lots = counts
    assert lots < 1.3 * few * MANY / FEW
