"""A run that was changed after recording, or forged, is rejected."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recording import MANIFEST, FakeMachine, call, contents, push

from shstk.replay.run import Run
from shstk.schemas.door import faults, read_manifest
from shstk.schemas.errors import BadRun
from shstk.schemas.seq import pack
from shstk.tracer.recording.recorder import Recorder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rec = Recorder(tmp_path_factory.mktemp("runs") / "run")
    machine = FakeMachine()
    machine.put("cfi", [push(i) for i in range(1, 50)])
    rec.drain(machine)
    for i in range(1, 50):
        call(rec, i)
    rec.input("/prog", b"the program", 0o755, pack(0, 1))
    return rec.seal(MANIFEST)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_it_is_whole(run: Path) -> None:
    assert len(Run.open(run).table("cfi")) == 49


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_one_flipped_byte_anywhere(copy: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(contents(copy))))
    whole = (copy / name).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    mask = data.draw(st.integers(1, 255))
    (copy / name).write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
    try:
        with pytest.raises(BadRun) as error:
            Run.open(copy)
        assert error.value.hint
    finally:
        (copy / name).write_bytes(whole)


@pytest.mark.parametrize("name", ["cfi.parquet", "syscalls.parquet", "manifest.json", "files"])
def test_a_missing_file(copy: Path, name: str) -> None:
    (shutil.rmtree if name == "files" else Path.unlink)(copy / name)
    with pytest.raises(BadRun, match=name):
        Run.open(copy)


def test_a_missing_input(copy: Path) -> None:
    next((copy / "files").iterdir()).unlink()
    with pytest.raises(BadRun, match="files"):
        Run.open(copy)


@pytest.mark.parametrize("name", ["notes.txt", "flow.parquet", "files/0123"])
def test_a_file_too_many(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"")
    with pytest.raises(BadRun, match=name.split("/")[-1]):
        Run.open(copy)


@pytest.mark.parametrize("name", ["cfi.parquet", "manifest.json"])
def test_a_truncated_file(copy: Path, name: str) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(BadRun, match=name):
        Run.open(copy)


def test_tables_changed_for_one_another(copy: Path) -> None:
    shutil.copy(copy / "syscalls.parquet", copy / "cfi.parquet")
    with pytest.raises(BadRun, match=r"cfi\.parquet"):
        Run.open(copy)


def test_a_run_of_another_schema_version(copy: Path) -> None:
    raw = json.loads((copy / "manifest.json").read_text())
    raw["schema_version"] = 999
    (copy / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BadRun, match="schema_version 999, this shstk reads"):
        Run.open(copy)


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("empty", "file", "absent"):
        with pytest.raises(BadRun, match=name) as error:
            Run.open(tmp_path / name)
        assert error.value.hint


def test_in_memory_and_on_disk_are_the_same(run: Path) -> None:
    disk = Run.open(run)
    tables = {name: disk.arrow(name) for name in disk.manifest.tables}
    memory = Run.from_tables(disk.manifest, tables)
    for name in ("cfi", "syscalls", "inputs", "mms"):
        assert memory.table(name).equals(disk.table(name))
        assert memory.scan(name).collect().equals(Run.open(run).scan(name).collect())
        assert sum(b.num_rows for b in memory.batches(name)) == len(disk.table(name))
    with pytest.raises(KeyError):
        disk.table("nonsense")


@pytest.mark.parametrize("name", ["manifest.json", "cfi.parquet", "files/{elf}"])
@pytest.mark.parametrize("how", ["fifo", "link", "device", "directory"])
def test_only_regular_files_are_opened(copy: Path, name: str, how: str) -> None:
    """Opening a FIFO would wait, and reading /dev/zero would not end."""
    file = copy / name.format(elf=hashlib.sha256(b"the program").hexdigest())
    moved = file.rename(copy.parent / "moved")
    {
        "fifo": os.mkfifo,
        "link": lambda file: file.symlink_to(moved),
        "device": lambda file: file.symlink_to("/dev/zero"),
        "directory": Path.mkdir,
    }[how](file)
    with pytest.raises(BadRun, match="is not a regular file"):
        Run.open(copy)


def forge(copy: Path, name: str, rows: pa.Table, group: int) -> None:
    """Replace a table, and seal the run again."""
    file = copy / f"{name}.parquet"
    pq.write_table(rows, file, row_group_size=group, compression="zstd")
    data = file.read_bytes()
    manifest = read_manifest(copy)
    entry = replace(
        manifest.tables[name],
        rows=rows.num_rows,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    sealed = replace(manifest, tables=manifest.tables | {name: entry})
    (copy / "manifest.json").write_text(sealed.to_json())


def repeated(run: Path, name: str, count: int) -> pa.Table:
    """The first row of a table many times."""
    return pq.read_table(run / f"{name}.parquet").take([0] * count)


def test_a_row_group_that_is_too_large(copy: Path) -> None:
    forge(copy, "cfi", repeated(copy, "cfi", 2**21), group=2**21)
    with pytest.raises(BadRun, match="row group of 2097152 rows") as error:
        Run.open(copy)
    assert "trust" in error.value.hint


def test_a_small_file_with_strings_that_no_memory_holds(copy: Path) -> None:
    rows = repeated(copy, "inputs", 100)
    at = rows.schema.get_field_index("guest_path")
    paths = pa.array(["x" * 2**20] * 100)
    forge(copy, "inputs", rows.set_column(at, rows.schema.field(at), paths), group=2**20)
    assert (copy / "inputs.parquet").stat().st_size < 2**18
    [fault] = faults(copy, read_manifest(copy), memory=2**26)
    assert "needs 104," in fault.what
    assert list(faults(copy, read_manifest(copy))) == []


def test_an_input_is_named_by_a_hash_only(run: Path) -> None:
    with pytest.raises(BadRun, match="is not a sha256"):
        Run.open(run).file("../manifest.json")


def test_every_fault_is_named(copy: Path) -> None:
    (copy / "cfi.parquet").unlink()
    os.truncate(copy / "syscalls.parquet", 10)
    (copy / "mine").touch()
    found = [
        (fault.where.name, fault.what.split()[-1]) for fault in faults(copy, read_manifest(copy))
    ]
    assert [name for name, _ in found] == ["cfi.parquet", "mine", "syscalls.parquet"]
