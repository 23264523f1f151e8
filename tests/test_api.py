"""The Python API, as a notebook would use it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import polars as pl
import pytest

import shstk
from shstk.schemas.errors import BadRun, UsageError
from shstk.tracer.options import GuestArguments, GuestOptions

GUEST = Path(shstk.__file__).parent / "guests" / "pthread.elf"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("api") / "v3.run"
    printed: list[tuple[int, bytes]] = []
    result = shstk.record(GUEST, kernel="v3", out=out, on_output=lambda *w: printed.append(w))
    assert (result.path, result.exit_status, result.ending) == (out, 0, "exited")
    assert b"".join(data for _, data in printed) == b"four threads computed 1364\n"
    return out


def test_check(run: Path) -> None:
    report = shstk.check(run)
    assert not report.clean
    assert set(report.violated["rule"]) == {"A5", "A7", "X1", "I3"}
    assert shstk.check(run, expect="revision").clean
    assert set(shstk.check(run, select=["A7"]).findings["rule"]) == {"A7"}


def test_tables_views_and_sql(run: Path) -> None:
    opened = shstk.open(run)
    clones = opened.table("clones")
    assert clones.height == 4
    threads = shstk.query(opened, "SELECT tid, first_ssp FROM tasks WHERE how = 'thread'")
    assert threads["first_ssp"].n_unique() == 1  # v3: all on the parent's stack
    first = int(threads["first_ssp"][0])
    again = shstk.query(run, f"SELECT tid FROM tasks WHERE first_ssp = {first:#x}")
    assert again.height == threads.height
    assert opened.scan("cfi").select(pl.len()).collect().item() > 1000


def test_stacks(run: Path) -> None:
    stacks = shstk.stacks(run)
    assert stacks["owner"].to_list() == [100]
    assert shstk.stacks(run, addr=int(stacks["base"][0]) - 1).is_empty()


def test_matrix(tmp_path: Path) -> None:
    reports = shstk.matrix(GUEST, kernels=["v6", "7.2"], keep=tmp_path)
    assert {kernel: report.clean for kernel, report in reports.items()} == {
        "v6": False,
        "7.2": True,
    }
    assert shstk.check(tmp_path / "v6.run").violated.height == 5


def test_matrix_takes_what_record_takes(tmp_path: Path) -> None:
    shstk.matrix(GUEST, kernels=["v6"], keep=tmp_path, seed=7, env={"A": "b"}, quantum=(50, 500))
    manifest = shstk.open(tmp_path / "v6.run").manifest
    assert (manifest.kernel, manifest.seed, manifest.quantum) == ("v6", 7, (50, 500))
    assert manifest.environ == ("A=b",)


def test_what_is_tried_is_not_one_value() -> None:
    with pytest.raises(UsageError):
        shstk.matrix(GUEST, kernel="v6")
    with pytest.raises(UsageError):
        shstk.explore(GUEST, seed=1)


def test_guest_arguments_are_guest_options() -> None:
    options = {field.name for field in dataclasses.fields(GuestOptions)}
    arguments = GuestArguments.__optional_keys__ | GuestArguments.__required_keys__
    assert arguments == options - {"program", "argv"}


def test_export(run: Path, tmp_path: Path) -> None:
    paths = shstk.export(run, tmp_path / "tables", format="parquet")
    frames = {path.stem: pl.read_parquet(path) for path in paths}
    assert frames["clones"].height == 4


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(BadRun):
        shstk.open(tmp_path)
    with pytest.raises(UsageError):
        shstk.record(GUEST, kernel="v99", out=tmp_path / "x.run")


def test_a_timeout_in_whole_seconds(tmp_path: Path) -> None:
    result = shstk.record(GUEST, out=tmp_path / "a.run", timeout=60)
    assert shstk.open(result.path).manifest.timeout == 60.0


def test_no_module_hides_a_function() -> None:
    """`import shstk.x` binds shstk.x: a module named like a function would take its place."""
    modules = {path.stem for path in Path(shstk.__file__).parent.iterdir()}
    assert not modules & set(shstk.__all__) - {"__version__"}
