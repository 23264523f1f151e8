"""What is recovered of a recording that was cut off is a run that ended there: with the calls,
clones and address spaces that had not ended, and with no finding that the whole run hasn't."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from shstk.replay.check import check
from shstk.replay.run import Run
from shstk.schemas.seq import STEPS
from shstk.tracer.record import RecordOptions, record
from shstk.tracer.recording.rundir import recover

PROGRAMS = Path(__file__).parents[2] / "fixtures" / "bin"


class Died(Exception):
    pass


def recorded(program: str, kernel: str, out: Path, asked: Callable[[], bool]) -> Run:
    path = str(PROGRAMS / f"{program}.elf")
    record(RecordOptions(path, kernel=kernel, quantum=(100, 400), interrupted=asked, out=out))
    return Run.open(out)


def cut_off(program: str, kernel: str, out: Path, turn: int) -> Run:
    """The recording dies in a turn of the kernel's loop."""
    turns = iter(range(turn))

    def asked() -> bool:
        if next(turns, None) is None:
            raise Died
        return False

    with pytest.raises(Died):
        recorded(program, kernel, out, asked)
    return Run.open(recover(out))


def findings(run: Run) -> set[tuple[str, int, int | None]]:
    return set(check(run).violated.select("rule", "seq", "tid").iter_rows())


def open_rows(run: Run, table: str) -> int:
    return run.table(table)["seq_end"].null_count()


@pytest.mark.parametrize(
    ("program", "kernel"), [("a4", "v3"), ("processes", "7.2"), ("pthread-off", "v6"), ("x5", "v3")]
)
def test_no_finding_that_the_whole_run_has_not(program: str, kernel: str, tmp_path: Path) -> None:
    asked: list[None] = []
    whole = recorded(program, kernel, tmp_path / "whole.run", lambda: asked.append(None) or False)
    due, rng, unended = findings(whole), random.Random(program), 0
    for turn in rng.sample(range(1, len(asked)), 6):
        run = cut_off(program, kernel, tmp_path / f"{turn}.run", turn)
        assert findings(run) <= due, turn
        assert run.manifest.ending == "recovered"
        assert run.manifest.icount == (run.manifest.recovered_up_to or 0) // STEPS
        unended += open_rows(run, "mms")
        begun = run.table("mms")["mm"].to_list()
        assert len(set(begun)) == len(begun)
        assert set(run.table("mappings")["mm"]) <= {*begun, None}
    assert unended


def test_a_call_that_had_not_ended_is_there(tmp_path: Path) -> None:
    """vfork's parent waits in its call while the child runs."""
    asked: list[None] = []
    whole = recorded(
        "processes", "7.2", tmp_path / "whole.run", lambda: asked.append(None) or False
    )
    vfork = (
        whole.table("clones").filter(pl.col("api").cast(pl.String) == "vfork").row(0, named=True)
    )
    for turn in range(1, len(asked)):
        run = cut_off("processes", "7.2", tmp_path / f"{turn}.run", turn)
        if run.table("task_events").filter(tid=vfork["child_tid"]).height > 1:
            break
    attempt = run.table("clones").filter(seq=vfork["seq"]).row(0, named=True)
    assert attempt == vfork | {"seq_end": None, "ret": None}
    assert run.table("syscalls").filter(seq=vfork["seq"])["outcome"].to_list() == ["run_ended"]
