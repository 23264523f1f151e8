"""In a notebook, runs, reports and matrices show themselves; their tables stay numbers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import shstk
from shstk.notebook import Matrix, OpenRun

ROOT = Path(__file__).parents[1]
GUEST = ROOT / "shstk" / "guests" / "pthread.elf"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    folder = tmp_path_factory.mktemp("notebook")
    program = folder / EVIL
    shutil.copy(GUEST, program)
    return shstk.matrix(program, EVIL, kernels=["v3", "7.2"], keep=folder / "runs")


@pytest.fixture(scope="module")
def run(matrix: Matrix) -> OpenRun:
    run = matrix["v3"].opened
    assert isinstance(run, OpenRun)
    return run


def test_the_names_of_the_package_complete() -> None:
    assert {"record", "check", "open", "matrix"} <= set(dir(shstk))


def test_what_a_guest_chose_is_escaped(matrix: Matrix, run: OpenRun) -> None:
    modules = run.show("modules")
    for shown in (run, matrix["v3"], matrix, modules, run.timeline(), matrix["v3"].plot()):
        assert "<img" not in shown._repr_html_()
    assert EVIL.replace("<", "&lt;").replace(">", "&gt;") in modules._repr_html_()


def test_a_table_is_shown_by_its_units_and_has_numbers(run: OpenRun) -> None:
    shown = run.show("SELECT seq, ssp_exit FROM syscalls WHERE name = 'prctl'")
    assert "<td>7.1</td><td>0x7ffff7fff000</td>" in shown._repr_html_()
    assert "7.1" in repr(shown)
    assert shown.frame.row(0) == (7 * 2**20 + 1, 0x7FFFF7FFF000)
    assert run.table("syscalls").schema["seq"] == pl.UInt64


def test_long_tables_are_cut(run: OpenRun) -> None:
    shown = run.show("cfi")
    assert f"{shown.frame.height - 40:,} more rows" in repr(shown)
    assert shown._repr_html_().count("<tr>") == 41


def test_a_report_shows_its_causes_and_findings(matrix: Matrix) -> None:
    report = matrix["v3"]
    assert "13 findings, 2 causes" in repr(report)
    assert "<td>A5</td><td>thread-gets-own-stack</td><td>4</td>" in report._repr_html_()
    assert report.show().frame.height == 13
    assert report.plot()._repr_html_().count('class="mark"') == 13
    assert matrix["7.2"].show().frame.height == 0


def test_a_matrix_shows_its_changes(matrix: Matrix) -> None:
    assert "<td>A5</td>" in matrix._repr_html_()
    assert "<td>in v3, gone 7.2</td>" in matrix._repr_html_()


def test_a_picture_stands_alone(run: OpenRun, tmp_path: Path) -> None:
    run.timeline().save(tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text()
    assert "<svg" in text
    assert "--bad:" in text
    assert 'class="mark"' not in text


def test_the_example_shows_what_it_shows() -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    tool = [sys.executable, "-P", ROOT / "tools" / "run_notebook.py", "--check"]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
