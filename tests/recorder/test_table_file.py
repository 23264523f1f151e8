"""The file of a table does not depend on the batches of its rows, and is valid Parquet."""

import math
import shutil
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording import MANIFEST, FakeMachine, call, chunks, contents, push

from shstk.replay.run import Run
from shstk.schemas.errors import CannotWrite
from shstk.schemas.manifest import TableEntry
from shstk.schemas.seq import pack
from shstk.tracer.recording import tablefile
from shstk.tracer.recording.parquet_join import join
from shstk.tracer.recording.recorder import Recorder, Thresholds, core_batch
from shstk.tracer.recording.rundir import recover
from shstk.tracer.recording.tablefile import TableFile

ROWS = 1000


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablefile, "ROW_GROUP", 128)


def batch(rows: range) -> pa.RecordBatch:
    machine = FakeMachine()
    machine.put("cfi", [push(i, kind=i % 7, fault=18 if i % 99 == 0 else 255) for i in rows])
    return core_batch("cfi", machine.drain("cfi"))


def sealed(directory: Path, size: int, saving: bool = False) -> TableEntry:
    directory.mkdir()
    file = TableFile("cfi", directory)
    for part in chunks(range(1, ROWS + 1), size):
        file.append(batch(part))
        if saving:
            file.save()
    return file.seal()


def test_the_rows_and_nothing_else(tmp_path: Path) -> None:
    entry = sealed(tmp_path / "a", 77)
    path = tmp_path / "a" / "cfi.parquet"
    whole = pa.Table.from_batches([batch(range(1, ROWS + 1))])
    assert pq.read_table(path).equals(whole)
    assert pl.read_parquet(path).equals(pl.from_arrow(whole))
    late = pl.scan_parquet(path).filter(pl.col("seq") > pack(990, 0)).collect()
    assert late.equals(pl.from_arrow(whole[990:]))
    groups = pq.read_metadata(path)
    assert (groups.num_row_groups, groups.num_rows, entry.rows) == (8, ROWS, ROWS)
    last = groups.row_group(7).column(0).statistics
    assert (last.min, last.max) == (pack(7 * 128 + 1, 0), pack(ROWS, 0))
    assert [c.column_index for c in groups.row_group(7).sorting_columns] == [0]


def test_the_same_bytes_however_they_came(tmp_path: Path) -> None:
    first = sealed(tmp_path / "a", 1000)
    for name, size, saving in (("b", 128, False), ("c", 1, True), ("d", 300, True)):
        assert sealed(tmp_path / name, size, saving) == first


def test_one_file_joined_is_that_file(tmp_path: Path) -> None:
    table = pa.table({"a": [1, None, 3], "b": ["x", "", None], "c": [0.5, -0.0, 1e300]})
    pq.write_table(table, tmp_path / "a")
    join([tmp_path / "a"], tmp_path / "b")
    join([tmp_path / "a"] * 20, tmp_path / "c")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert pq.read_table(tmp_path / "c").equals(pa.concat_tables([table] * 20))
    part, whole = pq.read_metadata(tmp_path / "a"), pq.read_metadata(tmp_path / "c")
    assert whole.schema == part.schema
    assert whole.metadata == part.metadata
    for number in (0, 19):
        for column in range(3):
            joined = whole.row_group(number).column(column)
            assert joined.statistics == part.row_group(0).column(column).statistics


def recording(directory: Path) -> tuple[Recorder, FakeMachine]:
    """A recording with marks at 300, 600 and 900, but not at its end at 1000."""
    rec = Recorder(directory, thresholds=Thresholds(mark_seconds=math.inf))
    rec.begin(MANIFEST)
    machine = FakeMachine()
    for start in (1, 301, 601):
        machine.put("cfi", [push(i) for i in range(start, start + 300)])
        call(rec, start + 299)
        rec.drain(machine)
        rec.mark()
    machine.put("cfi", [push(i) for i in range(901, ROWS + 1)])
    rec.drain(machine)
    return rec, machine


def upto(run: Path) -> int:
    found = Run.open(run)
    rows = len(found.table("cfi"))
    assert found.table("cfi")["seq"].to_list() == [pack(i, 0) for i in range(1, rows + 1)]
    assert len(found.table("syscalls")) == rows // 300
    assert found.manifest.recovered_up_to == pack(rows, 1)
    return rows


def test_cut_off_among_row_groups(tmp_path: Path) -> None:
    recording(tmp_path / "run")[0].abandon()
    partial = tmp_path / "run.partial"
    names = set(contents(partial))
    assert {"cfi.0.group", "cfi.6.group"} <= names
    assert {name for name in names if name.startswith("cfi") and name.endswith("arrows")} <= {
        "cfi.7.arrows"
    }
    for lost, rows in (("", 900), ("cfi.6.group", 600), ("cfi.3.group", 300)):
        torn = tmp_path / f"torn{lost}.partial"
        shutil.copytree(partial, torn)
        if lost:
            (torn / lost).write_bytes((torn / lost).read_bytes()[:-3])
        assert upto(recover(torn)) == rows


def test_recovered_again_after_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording(tmp_path / "run")[0].abandon()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recover(tmp_path / "run.partial")
    assert upto(recover(tmp_path / "run.partial")) == 900


def test_sealing_cut_off_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording(tmp_path / "whole")[0].seal(MANIFEST)
    with monkeypatch.context() as patched:
        patched.setattr(
            "shstk.tracer.recording.tablefile.join",
            lambda *_: (_ for _ in ()).throw(OSError(5, "I/O")),
        )
        with pytest.raises(CannotWrite, match="I/O"):
            recording(tmp_path / "run")[0].seal(MANIFEST)
    recover(tmp_path / "run.partial")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
