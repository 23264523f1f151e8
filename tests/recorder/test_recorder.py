"""The rows that are recorded are read back in seq order, for any batches."""

import math
from pathlib import Path

import pytest
from recording import MANIFEST, FakeMachine, call, chunks, contents, push

from shstk.replay.run import Run
from shstk.schemas.errors import CannotWrite
from shstk.schemas.seq import pack
from shstk.schemas.vocabulary import CFI_KINDS
from shstk.tracer.recording import tablefile
from shstk.tracer.recording.nothing import NullRecorder
from shstk.tracer.recording.recorder import Recorder, Thresholds


def test_rows_of_the_kernel_model(tmp_path: Path) -> None:
    rec = Recorder(tmp_path / "run")
    rec.row("mms", seq=pack(0, 1), tid=1, mm=1, cause="exec")
    rec.row("output", seq=pack(3, 2), tid=1, mm=1, fd=1, bytes=b"\0\xff\n")
    call(rec, 3, seq_end=pack(3, 3), ssp_entry=2**64 - 8)
    run = Run.open(rec.seal(MANIFEST))
    assert run.table("output").rows(named=True) == [
        {"seq": pack(3, 2), "tid": 1, "mm": 1, "fd": 1, "bytes": b"\0\xff\n"}
    ]
    row = run.table("syscalls").row(0, named=True)
    assert (row["a0"], row["ret"], row["ssp_entry"], row["ssp_exit"]) == (
        2**64 - 1,
        -12,
        2**64 - 8,
        None,
    )
    assert run.table("mms")["cause"].to_list() == ["exec"]
    assert run.table("clones").is_empty()
    assert run.manifest.ending == "exited"


def test_rows_that_come_late_are_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablefile, "ROW_GROUP", 4)
    order = [2, 3, 5, 1, 6, 7, 8, 4, 9, 12, 11, 10, 13, 0]
    rec = Recorder(tmp_path / "run", thresholds=Thresholds(rows=3))
    for icount in order:
        call(rec, icount, a0=icount)
    run = Run.open(rec.seal(MANIFEST))
    assert run.table("syscalls")["a0"].to_list() == sorted(order)
    assert run.table("syscalls")["seq"].is_sorted()


def test_what_the_executor_cannot_know_is_null(tmp_path: Path) -> None:
    machine = FakeMachine()
    kinds = {word: push(i + 1, kind=i) for i, word in enumerate(CFI_KINDS)}
    machine.put("cfi", [*kinds.values(), push(9, kind=1, fault=18)])
    machine.put(
        "insn",
        [
            (pack(1, 0), 1, 7, 0x10000, 0x13, 255, 3, 4, 5, 0, 6),
            (pack(2, 0), 1, 7, 0x10004, 0x13, 0, 2**64 - 1, 4, 5, 8, 6),
        ],
    )
    rec = Recorder(tmp_path / "run")
    rec.drain(machine)
    run = Run.open(rec.seal(MANIFEST))
    cfi = {row["kind"]: row for row in run.table("cfi")[:7].iter_rows(named=True)}
    assert list(cfi) == list(CFI_KINDS)
    nulls = {kind: {c for c, v in row.items() if v is None} for kind, row in cfi.items()}
    assert nulls == {
        "sspush": {"operand", "fault"},
        "sspopchk": {"fault"},
        "ssamoswap": {"fault"},
        "ssrdp": {"addr", "operand", "fault"},
        "ssp_read": {"addr", "operand", "fault"},
        "ssp_write": {"addr", "operand", "fault"},
        "lpad": {"addr", "fault"},
    }
    last = run.table("cfi").row(7, named=True)
    assert (last["fault"], last["kind"], last["addr"]) == (18, "sspopchk", push(9)[5])
    insn = run.table("insn").rows(named=True)
    assert [insn[0][c] for c in ("rd", "rd_value", "mem_addr", "mem_value", "mem_size")] == [
        None
    ] * 5
    assert [insn[1][c] for c in ("rd", "rd_value", "mem_addr", "mem_value", "mem_size")] == [
        0,
        2**64 - 1,
        4,
        5,
        8,
    ]


def test_blocks_get_their_module(tmp_path: Path) -> None:
    machine = FakeMachine()
    machine.put_code(pack(1, 0), 0, 0x10000, b"\x13\0\0\0", b"", b"\x82\x80")
    asked: list[tuple[int, int]] = []

    def module_of(mm: int, pc: int) -> int | None:
        asked.append((mm, pc))
        return 3 if pc == 0x10000 else None

    rec = Recorder(tmp_path / "run", module_of=module_of)
    rec.drain(machine)
    run = Run.open(rec.seal(MANIFEST))
    assert run.table("code")["bytes"].to_list() == [b"\x13\0\0\0", b"", b"\x82\x80"]
    assert run.table("code")["module"].to_list() == [3, None, None]
    assert asked == [(7, 0x10000), (7, 0x10004), (7, 0x10004)]


def record(run: Path, size: int, marked: bool, **thresholds: int) -> Path:
    """1000 pushes and calls, drained `size` at a time."""
    rec = Recorder(run, thresholds=Thresholds(mark_seconds=math.inf, **thresholds))
    machine = FakeMachine()
    for part in chunks(range(1, 1001), size):
        machine.put("cfi", [push(i) for i in part])
        for i in part:
            call(rec, i, name=f"call{i % 3}")
        rec.drain(machine)
        if marked:
            rec.mark()
    return rec.seal(MANIFEST)


def test_the_same_rows_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tablefile, "ROW_GROUP", 256)
    whole = contents(record(tmp_path / "a", 1000, marked=False))
    assert whole.keys() == {"manifest.json", "cfi.parquet", "syscalls.parquet"}
    assert contents(record(tmp_path / "b", 7, marked=True)) == whole
    assert contents(record(tmp_path / "c", 300, marked=False, rows=10)) == whole


def test_nothing_of_the_host_is_in_a_run(tmp_path: Path) -> None:
    run = record(tmp_path / "where-it-was-recorded", 100, marked=False)
    for name, data in contents(run).items():
        assert b"where-it-was-recorded" not in data, name


def test_files_are_stored_once(tmp_path: Path) -> None:
    rec = Recorder(tmp_path / "run")
    given = [("/a", b"x", 0o644), ("/b", b"x", 0o644), ("/a", b"x", 0o644), ("/a", b"y", 0o644)]
    numbers = [rec.input(p, d, m, pack(i, 1)) for i, (p, d, m) in enumerate(given)]
    assert numbers == [1, 2, 1, 3]
    run = Run.open(rec.seal(MANIFEST))
    inputs = run.table("inputs")
    assert inputs["guest_path"].to_list() == ["/a", "/b", "/a"]
    assert [run.file(sha256) for sha256 in inputs["sha256"]] == [b"x", b"x", b"y"]
    assert len(list((tmp_path / "run" / "files").iterdir())) == 2


def test_a_row_that_is_wrong_is_refused(tmp_path: Path) -> None:
    rec = Recorder(tmp_path / "run")
    with pytest.raises(ValueError, match="output has no column fb"):
        rec.row("output", seq=1, fb=1)
    with pytest.raises(ValueError, match=r"output\.fd: 'one' is not of type i32"):
        rec.row("output", seq=1, fd="one", bytes=b"")
    rec.discard()
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_never_overwritten_without_force(tmp_path: Path) -> None:
    first = contents(record(tmp_path / "run", 10, marked=False))
    with pytest.raises(CannotWrite, match="already exists"):
        Recorder(tmp_path / "run")
    rec = Recorder(tmp_path / "run", force=True)
    assert contents(tmp_path / "run") == first, "it is there until the new one is whole"
    rec.seal(MANIFEST)
    assert Run.open(tmp_path / "run").table("cfi").is_empty()


def test_force_overwrites_runs_only(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("dear to someone")
    (tmp_path / "file").write_text("too")
    for name in ("home", "file"):
        with pytest.raises(CannotWrite, match="is not a run"):
            Recorder(tmp_path / name, force=True)
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_two_recordings_cannot_share_a_directory(tmp_path: Path) -> None:
    Recorder(tmp_path / "run")
    with pytest.raises(CannotWrite, match=r"run\.partial already exists") as error:
        Recorder(tmp_path / "run")
    assert "shstk recover" in error.value.hint


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot write to"):
        Recorder(tmp_path / "file" / "run")


def test_without_a_record() -> None:
    rec = NullRecorder()
    machine = FakeMachine()
    machine.put("cfi", [push(1)])
    rec.row("output", seq=1, fd=1, bytes=b"")
    rec.drain(machine)
    assert machine.pending("cfi") == 0
    assert [rec.input("/a", b"", 0, 0), rec.input("/b", b"", 0, 0), rec.input("/a", b"", 0, 0)] == [
        1,
        2,
        1,
    ]
