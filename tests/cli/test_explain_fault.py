"""`shstk explain-fault` and the end of `shstk check`, as a user sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run

GUEST = Path(__file__).parents[2] / "fixtures" / "bin" / "faulty.elf"

CASES = {
    "smashed": "7.2",
    "longjmp": "7.2",
    "overflow": "7.2",
    "two-tasks": "v3",
    "thread-off": "v3",
    "handler": "7.2",
    "token": "7.2",
    "full-fault": "7.2",
    "exec": "v26",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for case, kernel in CASES.items():
        shstk.record(GUEST, case, kernel=kernel, out=folder / f"{case}.run")
    shstk.record(GUEST, out=folder / "alive.run")
    return folder


@pytest.fixture(autouse=True)
def among_the_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("case", CASES)
def test_text(
    case: str, capfd: pytest.CaptureFixture[str], snapshot: Callable[[str, str], None]
) -> None:
    assert run(["explain-fault", f"{case}.run", *(["--all"] if case == "handler" else [])]) == 0
    snapshot(f"explain-fault-{case}", capfd.readouterr().out)


def test_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["explain-fault", "two-tasks.run", "--format", "json"]) == 0
    (told,) = json.loads(capfd.readouterr().out)
    assert told["cause"]["rule"] == "A5"
    assert (told["tid"], told["written_by"]["tid"]) == (101, 102)
    assert told["written_by"]["place"]["symbol"] == "takes_its_turn"
    assert told["expected"]["place"]["symbol"] == "two"
    assert told["found"]["place"]["symbol"] == "one"


def test_no_fault(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["explain-fault", "alive.run"]) == 0
    assert capfd.readouterr().out == "alive.run: no fault ended a task\n"
    assert run(["explain-fault", "alive.run", "--all"]) == 0
    assert capfd.readouterr().out == "alive.run: no fault\n"


def test_no_fault_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["explain-fault", "longjmp.run", "7.1"]) == 2
    err = capfd.readouterr().err
    assert "no fault at 7.1" in err
    assert "the nearest faults are at" in err


def test_check_ends_with_what_ended_the_run(
    capfd: pytest.CaptureFixture[str], snapshot: Callable[[str, str], None]
) -> None:
    assert run(["check", "longjmp.run", "--select", "A5"]) == 0  # no finding: the exit code stays
    snapshot("check-fault", capfd.readouterr().out)
    assert run(["check", "alive.run", "longjmp.run", "--format", "json", "--select", "A5"]) == 0
    alive, dead = json.loads(capfd.readouterr().out)
    assert alive["fault"] is None
    assert dead["fault"]["cause"]["pattern"] == "longjmp keeps ssp"
