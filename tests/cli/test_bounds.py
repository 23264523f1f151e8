"""Of what a run has many of, commands print the first ones and count the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run

GUEST = Path(__file__).parents[2] / "fixtures" / "bin" / "again.elf"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    shstk.record(GUEST, "signals", "25", out=folder / "signals.run")
    shstk.record(GUEST, "faults", "25", out=folder / "faults.run")
    shstk.record(GUEST, "leaks", "25", out=folder / "leaks.run")
    return folder


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    run(list(map(str, arguments)))
    return capsys.readouterr().out.splitlines()


def test_findings(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """v3 places the frame's words elsewhere than 7.2: a finding a delivery."""
    check = ("check", runs / "signals.run", "--as", "v3", "--select", "G3")
    few, every = said(capsys, *check), said(capsys, *check, "--all")
    assert "G3 frame-has-its-layout (error): violated 25 times" in few
    assert any(line.startswith("  24 more like it (--all): ") for line in few)
    assert sum("expected" in line for line in few) == 1
    assert sum("expected" in line for line in every) == 25
    (report,) = json.loads("\n".join(said(capsys, *check, "--format", "json")))
    assert len(report["findings"]) == 25


def test_faults(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = said(capsys, "explain-fault", "--all", runs / "faults.run")
    assert sum("caught SIGSEGV" in line for line in every) == 20
    assert every[-1].startswith("… 5 more: shstk query ")


def test_lists_of_an_explanation(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A longjmp that keeps ssp leaves its handlers' words: the pop at the end meets them."""
    told = said(capsys, "explain-fault", runs / "leaks.run")
    assert "  - tokens of 22 more signals lie above it" in told
    assert "  … 65 more" in told
    shown = said(capsys, "explain-fault", runs / "leaks.run", "--format", "json")
    (one,) = json.loads("\n".join(shown))
    assert (len(one["shadow_stack"]), one["shadow_stack_count"]) == (12, 77)
