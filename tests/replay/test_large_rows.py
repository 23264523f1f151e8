"""What a run holds of the guest's data is not held in memory to be judged."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from shstk.replay.check import check
from shstk.replay.derive.rows import transfers
from shstk.replay.run import Run
from shstk.tracer.record import RecordOptions, record

GUEST = Path(__file__).parents[2] / "fixtures" / "bin" / "again.elf"
LARGE = 1 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run, one of whose rows of kernel_memory became large."""
    out = tmp_path_factory.mktemp("large") / "a.run"
    record(RecordOptions(program=str(GUEST), argv=("signals", "2"), out=out))
    run = Run.open(out)
    tables = {name: run.arrow(name) for name in run.names}
    rows = tables["kernel_memory"].to_pylist()
    rows[1]["bytes"] += bytes(LARGE)
    tables["kernel_memory"] = pa.Table.from_pylist(rows, tables["kernel_memory"].schema)
    return Run.from_tables(run.manifest, tables)


def test_large_rows_are_read_again(large: Run) -> None:
    stored = large.table("kernel_memory")["bytes"].to_list()
    found = list(transfers(large))
    assert [t.bytes for t in found] == stored
    assert [t.size for t in found] == list(map(len, stored))
    assert [isinstance(t.held, bytes) for t in found] == [len(b) < LARGE for b in stored]


def test_no_table_of_data_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "b.run"
    record(RecordOptions(program=str(GUEST), argv=("threads", "2"), out=out))
    run, whole = Run.open(out), Run.table

    def table(self: Run, name: str) -> object:
        assert name not in ("kernel_memory", "output") or name not in self.manifest.tables
        return whole(self, name)

    monkeypatch.setattr(Run, "table", table)
    assert check(run).results
