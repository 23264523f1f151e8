"""Recorded programs, judged: every revision does what its own code does, and intent sees the bugs.

The scenarios are those of the reference's table (SC1 to SC13), as programs in fixtures/.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

PROGRAMS = Path(__file__).parents[2] / "fixtures" / "bin"
BEFORE_THE_FIX, FIXED_GATE, MERGED = "v3", "v6", "7.2"

# What intent finds: rule and how often, under v3, v6 and 7.2.
FOUND: dict[str, tuple[dict[str, int], dict[str, int], dict[str, int]]] = {
    "sc1": ({"A5": 1, "A7": 1, "X1": 1}, {"X1": 2}, {}),
    "sc2": ({"A5": 1, "A7": 1, "X1": 1}, {"X1": 2}, {}),
    "sc3": ({"X1": 1}, {"X1": 1}, {}),
    "sc4": ({"X1": 2}, {"X1": 2}, {}),
    "sc5": ({"A2": 1}, {"X1": 1}, {}),
    "sc6": ({"X5": 1}, {"X1": 1}, {"A10": 5}),
    "sc7": ({"X5": 1}, {"X1": 1}, {}),
    "sc9": ({"A5": 6, "A7": 6}, {"X1": 5}, {}),
    "sc10": ({"A5": 1, "A7": 1, "X5": 1}, {"X1": 1}, {}),
    "sc11": ({}, {}, {}),
    "sc12": ({}, {}, {}),
    "sc13": ({"P8": 1, "X1": 1}, {"X1": 2}, {}),
    "x8": ({"A5": 1, "A7": 1, "X8": 1}, {"X1": 1, "X8": 1}, {}),
    "green-threads": ({"X1": 1}, {"X1": 1}, {}),
    "signals": ({"A5": 1, "A7": 1, "I3": 1, "X1": 1}, {"X1": 2}, {}),
}


@pytest.fixture
def recorded(tmp_path: Path):  # type: ignore[no-untyped-def]
    def run(program: str, kernel: str) -> Run:
        out = tmp_path / f"{program}.run"
        record(RecordOptions(program=str(PROGRAMS / f"{program}.elf"), out=out, kernel=kernel))
        return Run.open(out)

    return run


@pytest.mark.parametrize("column", range(3), ids=[BEFORE_THE_FIX, FIXED_GATE, MERGED])
@pytest.mark.parametrize("program", FOUND)
def test_what_intent_finds_and_that_the_revision_is_true_to_itself(
    program: str,
    column: int,
    recorded,  # type: ignore[no-untyped-def]
) -> None:
    run = recorded(program, (BEFORE_THE_FIX, FIXED_GATE, MERGED)[column])
    assert dict(Counter(check(run).violated["rule"])) == FOUND[program][column]
    own = check(run, expect="revision").violated
    assert own.is_empty(), own.select("rule", "note").rows()


TURNED = [
    ("sc11", "7.2,exec_lock=kept", {"E2": 1}),
    ("x6", "7.2,release_hook=exit_thread", {"X1": 2, "X6": 1}),
    ("sc6", "v6,release_hook=deactivate_mm", {"A10": 5}),
    ("sc1", "7.2,clone_gate=inverted", {"A5": 1, "A7": 1, "X5": 1}),
    ("sc12", "7.2,map_token_returns=token", {}),
]


@pytest.mark.parametrize(("program", "kernel", "found"), TURNED)
def test_single_switches(program: str, kernel: str, found: dict[str, int], recorded) -> None:  # type: ignore[no-untyped-def]
    run = recorded(program, kernel)
    assert dict(Counter(check(run).violated["rule"])) == found
    assert check(run, expect="revision").clean


def test_one_kernels_run_judged_as_anothers(recorded) -> None:  # type: ignore[no-untyped-def]
    """The two opinions are apart: v3's run is not what 7.2's code does."""
    run = recorded("sc1", "v3")
    rules = set(check(run, expect="revision", as_="7.2").violated["rule"])
    assert rules == {"A5", "A7", "P6", "X1"}  # P6: v3's stack is twice the size


def test_lengthening_a_tasks_life_does_not_change_its_past(recorded) -> None:  # type: ignore[no-untyped-def]
    """The same findings from the same tables, in the same order, each time."""
    run = recorded("sc10", "v3")
    again = Run.open(run.path)
    assert check(run).findings.equals(check(again).findings)
