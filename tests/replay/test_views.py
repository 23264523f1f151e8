"""The views and `shstk stacks`: columns as they are declared, rows as a reader expects them."""

from __future__ import annotations

import polars as pl
import pytest
from listings import LEAK, threaded

from shstk.replay.stacks import stacks
from shstk.replay.views import VIEWS, View

DTYPES = {
    "u32": pl.UInt32,
    "u64": pl.UInt64,
    "i32": pl.Int32,
    "i64": pl.Int64,
    "str": pl.String,
    "bool": pl.Boolean,
}
S1, S2 = 0x7FFF_F000_0000, 0x7FFF_E000_0000
TOP1, TOP2 = S1 + 0x40_0000, S2 + 0x40_0000


def step(icount: int, n: int) -> int:
    return icount * 2**20 + n


@pytest.mark.parametrize("view", VIEWS.values(), ids=lambda v: v.name)
def test_a_view_has_the_columns_it_declares(view: View) -> None:
    frame = view.build(threaded())
    assert dict(frame.schema) == {c.name: DTYPES[c.base] for c in view.columns}
    assert frame.is_empty() == (view.name == "fault_causes")  # no fault: test_explain has some
    for column in view.columns:
        assert column.nullable or frame[column.name].null_count() == 0


def test_tasks() -> None:
    rows = VIEWS["tasks"].build(threaded()).rows(named=True)
    assert [(r["tid"], r["pid"], r["parent"], r["how"]) for r in rows] == [
        (1, 1, None, "boot"),
        (2, 1, 1, "thread"),
    ]
    assert rows[1]["first_ssp"] == TOP2
    assert rows[1]["exit_seq"] == step(50, 2)


def test_handoffs_say_what_was_due_and_what_came() -> None:
    (row,) = VIEWS["handoffs"].build(threaded()).rows(named=True)
    assert (row["tid"], row["kind"], row["stack_due"], row["size_due"]) == (
        2,
        "thread",
        True,
        2**22,
    )
    assert (row["base"], row["ssp_due"], row["ssp"]) == (S2, TOP2, TOP2)
    assert row["parent_ssp"] == TOP1 - 8


def test_the_ssp_path_goes_task_by_task() -> None:
    rows = VIEWS["ssp_path"].build(threaded())
    first = rows.filter(pl.col("tid") == 2)
    assert first["cause"].to_list() == ["first_user", "sspush", "sspopchk", "exit"]
    assert first["ssp_after"].to_list() == [TOP2, TOP2 - 8, TOP2, None]


def test_stacks_say_whose_by_whom_until_when_and_how_deep() -> None:
    own, thread = stacks(threaded()).rows(named=True)
    assert (own["owner"], own["how"], own["made_by"], own["high_water"]) == (1, "prctl", 1, 8)
    assert (thread["owner"], thread["how"], thread["made_by"]) == (2, "clone", 1)
    assert (thread["released_by"], thread["released_how"]) == (2, "exit")
    assert thread["released_seq"] == step(50, 3)
    assert thread["should"] is None


def test_stacks_say_who_should_have_released_what_stayed() -> None:
    thread = stacks(threaded(LEAK)).row(1, named=True)
    assert thread["released_how"] == "mm dropped"
    assert thread["should"] == "task 2's exit: its own, recorded base and size"


def test_stacks_at_a_time_and_at_an_address() -> None:
    run = threaded()
    assert stacks(run, at=step(20, 0))["base"].to_list() == [S1]
    assert stacks(run, at=step(40, 0))["base"].to_list() == [S1, S2]
    assert stacks(run, at=step(40, 0))["ssp"].to_list() == [TOP1 - 8, TOP2 - 8]
    assert stacks(run, at=step(60, 0))["base"].to_list() == [S1]
    assert stacks(run, addr=TOP2 - 8)["base"].to_list() == [S2]
    assert stacks(run, addr=TOP2)["base"].to_list() == [S2]
    assert stacks(run, addr=0x1000).is_empty()
