"""A guest that writes without end: memory follows no row, and disk follows --max-size."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shstk
from shstk.__main__ import run
from shstk.schemas.rows import to_batch
from shstk.schemas.tables import TABLES
from shstk.tracer.recording import tablefile
from shstk.tracer.recording.tablefile import TableFile

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm


def outputs(*sizes: int) -> list[dict[str, object]]:
    return [
        {"seq": n, "tid": 1, "mm": 1, "fd": 1, "bytes": bytes(size)} for n, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_a_group_ends_where_its_strings_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """Whatever the batches, the groups are the same, and no row is lost."""
    monkeypatch.setattr(tablefile, "GROUP_BYTES", 100)
    rows = outputs(60, 60, 10, 10, 250, 1, 99, 0, 0, 100, 5)
    file = TableFile("output", tmp_path)
    for at in range(0, len(rows), batch):
        file.append(to_batch(TABLES["output"], rows[at : at + batch]))
    file.seal()
    with pq.ParquetFile(tmp_path / "output.parquet") as sealed:
        groups = [sealed.read_row_group(n) for n in range(sealed.num_row_groups)]
    assert [len(group) for group in groups] == [2, 3, 2, 3, 1]
    assert pa.concat_tables(groups)["bytes"].to_pylist() == [row["bytes"] for row in rows]


def test_a_run_ends_at_its_size(tmp_path: Path) -> None:
    guest = tmp_path / "endless"
    guest.write_bytes(riscv_asm.program("again: j again"))
    result = shstk.record(guest, out=tmp_path / "run", max_size=1, timeout=60)
    assert result.ending == "full"
    assert result.describe() == "stopped at --max-size"
    assert shstk.open(tmp_path / "run").manifest.ending == "full"
    assert shstk.replay_run(tmp_path / "run").disagreement is None


@pytest.mark.parametrize(("storage", "ret"), [(None, 1), (4096, 1), (0, -28)])
def test_files_of_the_guest_end_at_theirs(tmp_path: Path, storage: int | None, ret: int) -> None:
    guest, out = tmp_path / "stores", tmp_path / "out.run"
    made = "sys 279, name, 0\nsys 64, 3, name, 1\nexit 0\nname: .word 109"
    guest.write_bytes(riscv_asm.program(made))
    shstk.record(guest, out=out, storage=storage)
    assert dict(shstk.open(out).table("syscalls").select("name", "ret").iter_rows())["write"] == ret
    assert run(["replay", str(out)]) == 0
    assert shstk.open(out).manifest.storage == storage
