"""Rows that an importer gathers become an ordinary run."""

from __future__ import annotations

from pathlib import Path

import shstk
from shstk.schemas import seq
from shstk.tracer.importers.rows import Rows
from shstk.tracer.importers.seal import About, seal

ABOUT = About(
    recorder="qemu",
    observed={"task_events": ("tid", "kind"), "cfi": ("tid", "pc")},
    kernel="7.2",
    program="/prog",
    argv=("prog", "arg"),
    first_tid=7,
    ending="exited",
    exit_status=0,
)


def test_a_sealed_import_is_a_run(tmp_path: Path) -> None:
    rows = Rows()
    rows.put("task_events", seq=rows.step(), tid=7, kind="created")
    end = rows.put("task_events", seq=rows.step(), tid=7, kind="exit_begin")
    rows.put("output", seq=rows.step(), tid=7, fd=1, bytes=b"hello")
    end["status"] = 256
    run = shstk.open(seal(tmp_path / "a.run", rows, ABOUT))
    assert run.manifest.argv == ("prog", "arg")
    assert run.manifest.kernel == "7.2"
    assert run.manifest.traced == ("cfi",)
    assert run.table("task_events")["status"].to_list() == [None, 256]


def test_positions_rise() -> None:
    rows = Rows()
    assert [seq.show(rows.instruction()), seq.show(rows.step())] == ["1.0", "1.1"]
    assert seq.show(rows.instruction(9)) == "9.0"
    assert seq.show(rows.instruction(9)) == "9.1"  # a source that counts may count one twice
    assert seq.show(rows.instruction()) == "10.0"


def test_rows_of_the_executor_are_packed_as_they_come_and_sorted() -> None:
    rows = Rows()
    late = rows.instruction()
    for _ in range(1 << 16):
        rows.put("flow", seq=rows.instruction(), tid=1, mm=1, block=3)
    rows.put("flow", seq=late, tid=1, mm=1, block=4)
    table = rows.tables()["flow"]
    assert table.num_rows == (1 << 16) + 1
    assert table["block"][0].as_py() == 4
