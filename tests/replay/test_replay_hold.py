"""Holding rows against a record: every column of every table counts, and the first one is found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from replaying import PROGRAMS, recorded, rows, tables, with_rows

from shstk.replay.hold import Difference, Hold
from shstk.replay.run import Run
from shstk.schemas.tables import TABLES

Tables = dict[str, pa.Table]
PAIRS = [(table.name, column.name) for table in TABLES.values() for column in table.columns]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    trace = frozenset({"cfi", "flow", "insn"})
    out = tmp_path_factory.mktemp("hold") / "a.run"
    return recorded(out, PROGRAMS / "signals.elf", trace=trace)


def held(
    run: Run, record: Tables, now: Tables, marks: Sequence[int] = (), many: int = 2**20
) -> Hold:
    """`now` in windows that end at the marks; a call comes when it ends."""
    hold = Hold(Run.from_tables(run.manifest, record), many=many)
    waiting = {}
    for name, table in now.items():
        due = table["seq_end" if "seq_end" in table.column_names else "seq"].to_pylist()
        order = sorted(range(len(due)), key=lambda at, due=due: (due[at] is None, due[at]))
        waiting[name] = (
            table.take(pa.array(order, pa.int64())),
            [due[at] for at in order if due[at] is not None],
        )
    for mark in (*marks, None):
        for name, (table, due) in waiting.items():
            ready = table.num_rows if mark is None else bisect_left(due, mark)
            for batch in table.slice(0, ready).to_batches():
                hold.append(name, batch)
            waiting[name] = table.slice(ready), due[ready:]
        if mark is not None:
            hold.mark(mark, {}, ())
    return hold


def other(value: Any, kinds: tuple[str, ...]) -> Any:
    if kinds:
        return next(kind for kind in kinds if kind != value)
    match value:
        case bool():
            return not value
        case int():
            return value ^ 1
        case str():
            return f"{value}x"
        case bytes():
            return bytes([value[0] ^ 1]) + value[1:] if value else b"x"
    return None


def marks_of(run: Run) -> Iterator[list[int]]:
    yield []
    yield [run.manifest.icount * n // 7 * 2**20 for n in range(1, 7)]


def test_a_run_agrees_with_itself(run: Run) -> None:
    for marks in marks_of(run):
        hold = held(run, tables(run), tables(run), marks)
        assert hold.first_difference() is None
        assert hold.agreed(None) == {
            name: entry.rows for name, entry in run.manifest.tables.items()
        }


@pytest.mark.parametrize(("table", "column"), PAIRS, ids=[f"{t}.{c}" for t, c in PAIRS])
def test_every_column_counts(run: Run, table: str, column: str) -> None:
    changed = rows(run, table)
    known = [at for at, row in enumerate(changed) if row[column] is not None]
    if not known:
        pytest.skip("no such value in this run")
    at = known[len(known) // 2]
    was = dict(changed[at])
    changed[at][column] = other(was[column], TABLES[table].column(column).kinds)
    for marks in marks_of(run):
        found = held(run, tables(run), with_rows(run, table, changed), marks).first_difference()
        assert found is not None
        assert (found.table, found.columns[0]) == (table, column)
        if column not in ("seq", "seq_end"):
            assert found.recorded == was
            assert found.now == changed[at]


@pytest.mark.parametrize("table", ["syscalls", "sched", "cfi", "flow", "kernel_memory", "output"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_row_too_many_on_either_side(run: Run, table: str, place: str) -> None:
    all_rows = rows(run, table)
    at = {"first": 0, "middle": len(all_rows) // 2, "last": len(all_rows) - 1}[place]
    fewer = with_rows(run, table, all_rows[:at] + all_rows[at + 1 :])
    for marks in marks_of(run):
        missing = held(run, tables(run), fewer, marks).first_difference()
        extra = held(run, fewer, tables(run), marks).first_difference()
        assert missing is not None
        assert extra is not None
        assert missing.table == extra.table == table
        assert missing.columns == extra.columns == ("seq",)
        assert missing.recorded == extra.now == all_rows[at]
        assert missing.time == extra.time == all_rows[at]["seq"]


def test_of_two_differences_the_earlier_is_told(run: Run) -> None:
    """Whatever their tables, and though the later one is in an earlier table."""
    early, late = rows(run, "flow"), rows(run, "task_events")
    early[100]["block"] += 1
    late[-1]["pc"] ^= 4
    now = {
        **with_rows(run, "flow", early),
        "task_events": with_rows(run, "task_events", late)["task_events"],
    }
    for marks in marks_of(run):
        found: Difference | None = held(run, tables(run), now, marks).first_difference()
        assert found is not None
        assert (found.table, found.time) == ("flow", early[100]["seq"])


@pytest.mark.parametrize("many", [2**20, 50])
def test_what_agreed_ends_at_the_difference(run: Run, many: int) -> None:
    """Wherever the windows were in which the rows were compared."""
    changed = rows(run, "kernel_memory")
    at = next(i for i, row in enumerate(changed) if i > 5 and row["bytes"])
    changed[at]["bytes"] = bytes([changed[at]["bytes"][0] ^ 1]) + changed[at]["bytes"][1:]
    due = changed[at]["seq"]
    told = []
    for marks in marks_of(run):
        hold = held(run, tables(run), with_rows(run, "kernel_memory", changed), marks, many)
        found = hold.first_difference()
        assert found is not None
        assert found.time == due
        told.append(hold.agreed(found.time))
    assert told[0] == told[1]
    for name in ("flow", "cfi", "task_events", "kernel_memory"):
        assert told[0][name] == sum(row["seq"] < due for row in rows(run, name))


def test_a_call_differs_when_it_ends(run: Run) -> None:
    """One that blocked: what happened while it waited comes first."""
    calls = rows(run, "syscalls")
    switches = rows(run, "sched")
    call, between = next(
        (call, switch)
        for call in calls
        for switch in switches
        if call["seq_end"] and call["seq"] < switch["seq"] < call["seq_end"]
    )
    call["ret"] ^= 1
    ended = with_rows(run, "syscalls", calls)
    found = held(run, tables(run), ended).first_difference()
    assert found is not None
    assert (found.table, found.columns, found.time) == ("syscalls", ("ret",), call["seq_end"])
    between["state_hash"] ^= 1
    found = held(
        run, tables(run), {**ended, "sched": with_rows(run, "sched", switches)["sched"]}
    ).first_difference()
    assert found is not None
    assert (found.table, found.columns) == ("sched", ("state_hash",))


def test_large_tables_do_not_wait_for_a_mark(run: Run) -> None:
    blocks = rows(run, "flow")
    hold = Hold(run, many=50)
    for at in range(0, 500, 20):
        hold.append("flow", run.arrow("flow").slice(at, 20).to_batches()[0])
    assert not hold.disagrees
    blocks[510]["block"] += 1
    changed = with_rows(run, "flow", blocks)
    hold.append("flow", changed["flow"].slice(500, 60).to_batches()[0])
    assert hold.disagrees
    found = held(run, tables(run), changed).first_difference()
    assert found is not None
    assert (found.table, found.time) == ("flow", blocks[510]["seq"])


def test_only_what_was_traced_is_compared(tmp_path: Path) -> None:
    bare = recorded(tmp_path / "bare.run", PROGRAMS / "signals.elf", trace=frozenset())
    assert not {"cfi", "flow", "code", "insn"} & set(Hold(bare).tables)
