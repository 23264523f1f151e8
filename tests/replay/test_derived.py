"""Instruction tables that a run does not hold: made by executing it again, as if they had been
recorded."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal
from replaying import PROGRAMS, PTHREAD, edited

import shstk
from shstk.cli import cli
from shstk.plugin import Plugin, Rows
from shstk.replay.run import Run
from shstk.replay.views import VIEWS
from shstk.schemas import seq as positions
from shstk.schemas.errors import BadRun
from shstk.schemas.seq import STEPS
from shstk.schemas.tables import DERIVABLE, tables_of
from shstk.tracer.record import RecordOptions, record
from shstk.tracer.recording.rundir import recover
from shstk.tracer.rerun.derived_cache import DerivedCache

TABLES = tables_of(DERIVABLE)
GUESTS = {
    "pthread": (PTHREAD, "v3", ()),
    "signals": (PROGRAMS / "signals.elf", "7.2", ()),
    "processes": (PROGRAMS / "processes.elf", "v6", ()),
    "taking-turns": (PROGRAMS / "taking-turns.elf", "v3", ()),
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "shstk" / "derived"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Of a guest: the run that holds its instruction tables, and the one that does not."""
    scratch = tmp_path_factory.mktemp("runs")

    @cache
    def both(name: str) -> tuple[Path, Path]:
        program, kernel, args = GUESTS[name]
        made = [scratch / f"{name}.{how}" / f"{name}.run" for how in ("stored", "bare")]
        for out, trace in zip(made, (DERIVABLE, ()), strict=True):
            out.parent.mkdir()
            shstk.record(program, *args, kernel=kernel, out=out, trace=trace)
        return made[0], made[1]

    return both


def told(run: Run) -> list[object]:
    """All that commands say of a run."""
    report = shstk.check(run)
    faults = [vars(one) for one in shstk.explain_fault(run, every=True)]
    return [
        report.findings.to_dicts(),
        str(report.causes),
        shstk.stacks(run).to_dicts(),
        str(faults),
        *(view.build(run).lazy().collect().to_dicts() for view in VIEWS.values()),
    ]


@pytest.mark.parametrize("name", GUESTS)
def test_all_is_as_if_it_had_been_recorded(
    name: str, runs: Callable[[str], tuple[Path, Path]]
) -> None:
    """The files are the same, byte for byte; so is what every rule, view and command says."""
    stored, bare = map(shstk.open, runs(name))
    assert bare.manifest.traced == ()
    assert not {*TABLES} & {*bare.manifest.tables}
    assert told(bare) == told(stored)
    for table in TABLES:
        file, derived = stored.source(table), bare.source(table)
        assert (file and file.read_bytes()) == (derived and derived.read_bytes()), table
        assert_frame_equal(stored.table(table), bare.table(table))


@pytest.mark.parametrize("command", ["check", "stacks", "log --cfi", "explain-fault --all"])
def test_commands_print_the_same(
    command: str, runs: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = []
    for path in runs("taking-turns"):
        monkeypatch.chdir(path.parent)
        result = CliRunner().invoke(cli, [*command.split(), path.name], standalone_mode=False)
        printed.append((result.output, result.return_value))
    assert printed[0] == printed[1]


def test_nothing_is_executed_for_other_tables(runs: Callable[[str], tuple[Path, Path]]) -> None:
    def derive(run: Run, tables: object) -> dict[str, Path]:
        raise AssertionError(tables)

    run = Run.open(runs("pthread")[1], derive=derive)
    assert run.table("syscalls").height
    assert run.table("clones").height
    assert shstk.query(run, "SELECT code FROM faults").is_empty()
    assert shstk.diff(run, run).same


def test_it_is_executed_once(runs: Callable[[str], tuple[Path, Path]], own_cache: Path) -> None:
    path = runs("pthread")[1]
    executed: list[None] = []
    for _ in range(2):
        run = shstk.open(path, done=lambda: executed.append(None))
        assert run.table("cfi").height
        assert run.table("cfi").height
    assert len(executed) == 1
    (kept,) = own_cache.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in kept.rglob("*") if file.is_file()] == ["cfi.parquet"]
    shutil.rmtree(own_cache)
    assert shstk.open(path).table("flow").height


def test_where_nothing_can_be_cached(
    runs: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    run = shstk.open(runs("pthread")[1], cache=tmp_path / "file" / "cache")
    assert run.table("cfi").height


def test_a_directory_of_somebody_else_is_not_trusted(
    runs: Callable[[str], tuple[Path, Path]], own_cache: Path
) -> None:
    path = runs("pthread")[1]
    assert shstk.open(path).table("cfi").height
    (kept,) = own_cache.iterdir()
    shutil.rmtree(kept / "cfi")
    (kept / "cfi").mkdir()  # as if there were no rows
    kept.chmod(0o777)
    assert shstk.open(path).table("cfi").height
    kept.chmod(0o700)
    assert shstk.open(path).table("cfi").is_empty()


def test_a_run_that_differs_has_no_such_rows(
    runs: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    """A result that this execution does not have: no rule that needs its instructions is
    evaluated, and none finds anything false."""
    bare = Run.open(runs("pthread")[1])
    calls = bare.table("syscalls")
    at = calls["name"].to_list().index("writev")
    run = edited(bare, tmp_path / "a.run", "syscalls", at, ret=calls["ret"][at] - 1)
    for _ in range(2):  # the second time it is known
        with pytest.warns(UserWarning, match="disagrees at"):
            report = shstk.check(tmp_path / "a.run", select=["A5", "X1", "I1", "I3", "R7"])
        results = {result.rule.id: result.not_evaluated for result in report.results}
        assert not results["A5"]
        why = f"disagrees at {positions.show(calls['seq_end'][at])} (syscalls)"
        for rule in ("I1", "I3", "R7"):
            assert why in results[rule]
            assert "--trace cfi,flow" in results[rule]
        assert set(report.violated["rule"]) == {"A5", "X1"}  # as without the edit
    with pytest.raises(BadRun, match="disagrees"), warnings.catch_warnings(action="ignore"):
        shstk.query(tmp_path / "a.run", "SELECT * FROM cfi")
    assert run.table("cfi").is_empty()


def test_no_derive(
    runs: Callable[[str], tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    path = runs("pthread")[1]
    monkeypatch.chdir(path.parent)
    found = CliRunner().invoke(cli, ["--no-derive", "check", "-v", path.name]).output
    assert "was not executed again" in found
    assert not [*own_cache.glob("*")]


def test_a_long_run_keeps_none(tmp_path: Path) -> None:
    """Kept or not depends on the number of rows, and not on when they arrive."""
    options = RecordOptions(str(PTHREAD), out=tmp_path / "a.run", kernel="v3")
    whole = shstk.open(record(options).path)
    assert whole.manifest.traced == DERIVABLE
    rows = {word: whole.rows(word) for word in DERIVABLE}
    assert rows["cfi"] < rows["flow"]
    for few in (rows["flow"], rows["flow"] - 1, rows["cfi"], rows["cfi"] - 1):
        out = tmp_path / f"{few}.run"
        run = shstk.open(record(replace(options, out=out, few=few)).path)
        kept = tuple(word for word in DERIVABLE if rows[word] <= few)
        assert run.manifest.traced == kept
        assert {*TABLES} & {*run.manifest.tables} == {*tables_of(kept)}
        assert run.table("cfi").equals(whole.table("cfi"))
        assert run.table("flow").equals(whole.table("flow"))


def test_there_is_room_for_so_much(tmp_path: Path) -> None:
    """The tables of the least recently used run go, unless somebody reads them."""

    def made(run: bytes, size: int) -> DerivedCache:
        cache = DerivedCache(tmp_path, run, all_bytes=100)
        with cache.work() as work:
            (work / "cfi").mkdir()
            (work / "cfi" / "cfi.parquet").write_bytes(bytes(size))
            cache.add("cfi", work / "cfi")
        for path in tmp_path.iterdir():
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
        return cache

    def there() -> set[bytes]:
        return {run for run in (b"a", b"b", b"c") if DerivedCache(tmp_path, run).tables("cfi")}

    made(b"a", 40)
    held = made(b"b", 40)
    made(b"c", 40)
    assert there() == {b"b", b"c"}
    made(b"a", 90)
    assert there() == {b"b", b"a"}
    assert held.tables("cfi")


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    cache = DerivedCache(tmp_path, b"a")
    with cache.work() as first:
        left = first.with_name(".work-left")
        left.mkdir(mode=0o700)
        with cache.work() as second:
            assert first.is_dir()
            assert not left.exists()
        assert not second.exists()


@pytest.mark.parametrize("few", [0, 50])
def test_a_recording_that_was_cut_off_has_the_rows_up_to_there(few: int, tmp_path: Path) -> None:
    """Its instruction tables were dropped before: the rest is recovered, and their rows are
    those of the whole run up to the place."""
    asked: list[None] = []

    def made(out: Path, interrupted: Callable[[], bool], **options: Any) -> Run:
        program = str(PROGRAMS / "processes.elf")
        record(RecordOptions(program, out=out, interrupted=interrupted, **options))
        return shstk.open(out)

    whole = made(tmp_path / "a.run", lambda: bool(asked.append(None)), trace={*DERIVABLE})
    turns = iter(range(len(asked) * 3 // 4))

    def die() -> bool:
        if next(turns, None) is None:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "b.run", die, few=few)
    run = shstk.open(recover(tmp_path / "b.run"))
    assert run.manifest.ending == "recovered"
    end = (run.manifest.recovered_up_to or 0) // STEPS * STEPS
    due = {table: whole.table(table).filter(pl.col("seq") <= end) for table in TABLES}
    assert run.manifest.traced == tuple(word for word in DERIVABLE if due[word].height <= few)
    for table in TABLES:
        assert due[table].height
        assert_frame_equal(run.table(table), due[table])


def test_a_plugin_gets_all_rows_of_a_run_that_keeps_none(tmp_path: Path) -> None:
    class Counts(Plugin):
        name = "counts"
        wants = (Rows("flow"),)

        def __init__(self) -> None:
            self.rows = 0

        def on_rows(self, table: str, rows: pa.RecordBatch) -> None:
            self.rows += rows.num_rows

    plugin = Counts()
    options = RecordOptions(str(PTHREAD), out=tmp_path / "a.run", few=10, plugins=(plugin,))
    run = shstk.open(record(options).path)
    assert run.manifest.traced == ()
    assert plugin.rows == run.rows("flow") > 1000
