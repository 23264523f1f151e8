"""`shstk replay` as a user sees it: text, JSON, exit codes, and runs that were tampered with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from replaying import PTHREAD, edited, recorded, rows

from shstk.__main__ import run
from shstk.replay.run import Run

Shown = Callable[[str], tuple[int, str, str]]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replay") / "a.run"
    recorded(out, PTHREAD, kernel="7.2")
    return out


@pytest.fixture
def shown(
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Shown:
    """Of one command line, in a folder that holds a.run: exit code, output, errors."""
    shutil.copytree(recording, tmp_path / "a.run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(line: str) -> tuple[int, str, str]:
        code = run(line.split())
        out, err = capfd.readouterr()
        return code, out, err

    return command


def test_a_run_that_agrees(shown: Shown, snapshot: Callable[[str, str], None]) -> None:
    code, out, err = shown("replay a.run")
    assert (code, err) == (0, "")
    snapshot("replay", out)
    code, out, _ = shown("replay a.run --until 20000 --format json")
    found = json.loads(out)
    assert code == 0
    assert (found["icount"], found["whole"], found["disagreement"]) == (20000, False, None)
    code, out, err = shown("replay a.run --plugin hot_blocks --format json")
    (plugin,) = json.loads(out)["plugins"]
    assert (code, plugin["name"]) == (0, "hot_blocks")
    assert plugin["summary"] in err


def test_a_run_that_does_not(
    shown: Shown, recording: Path, tmp_path: Path, snapshot: Callable[[str, str], None]
) -> None:
    whole = Run.open(recording)
    calls = rows(whole, "syscalls")
    at = next(i for i, row in enumerate(calls) if row["name"] == "clone")
    edited(whole, tmp_path / "b.run", "syscalls", at, ret=calls[at]["ret"] + 7)
    code, out, _ = shown("replay b.run")
    assert code == 4
    snapshot("replay-disagrees", out)
    code, out, _ = shown("replay b.run --format json")
    assert code == 4
    found = json.loads(out)["disagreement"]
    assert found["at"]["table"] == "syscalls"
    assert (found["at"]["seq"], found["at"]["began"]) == ("1364.5", "1364.1")
    assert found["columns"] == ["ret"]
    assert found["recorded"]["ret"] == calls[at]["ret"] + 7
    assert found["now"]["ret"] == calls[at]["ret"]
    assert found["now"]["a0"] == hex(calls[at]["a0"])


def test_under_another_kernel(shown: Shown, tmp_path: Path) -> None:
    code, _, err = shown("replay a.run --kernel v3")
    assert code == 0
    assert "recorded in a.v3.run" in err
    assert "shstk diff a.run a.v3.run" in err
    assert shown("replay a.v3.run")[0] == 0
    code, _, err = shown("replay a.run --kernel v3")
    assert code == 2
    assert "already exists" in err
    assert shown("replay a.run --kernel v3 --force")[0] == 0
    assert shown("replay a.run --kernel v3 -o other")[0] == 0
    assert (tmp_path / "other" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("replay a.run -o x", 2, "--kernel"),
        ("replay a.run --kernel v3 --until 5", 2, "--until"),
        ("replay a.run --kernel v99", 2, "v99"),
        ("replay nothing.run", 3, "is not a run"),
        ("replay hand.run", 3, "has no program"),
    ],
)
def test_wrong(shown: Shown, tmp_path: Path, line: str, code: int, said: str) -> None:
    listing = Path(__file__).parents[1] / "rules" / "A5.md"
    assert shown(f"build {listing} -o hand.run --run own-stack")[0] == 0
    found, _, err = shown(line)
    assert found == code
    assert said in err


def test_one_byte_of_any_file(shown: Shown, tmp_path: Path) -> None:
    """The run is damaged, wherever it is: at the file's start, middle and end."""
    files = [path for path in (tmp_path / "a.run").rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"a.run", "files"}
    for path in files:
        data = path.read_bytes()
        for at in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            code, _, err = shown("replay a.run")
            assert (code, err.split(":")[0]) == (3, "error")
        path.write_bytes(data)
        path.rename(tmp_path / "away")
        assert shown("replay a.run")[0] == 3
        (tmp_path / "away").rename(path)
    assert shown("replay a.run")[0] == 0


def test_a_replay_that_takes_too_long_is_given_up(shown: Shown) -> None:
    code, out, err = shown("replay a.run --timeout 1e-9")
    assert (code, out) == (3, "")
    assert "a.run: not compared to its end within --timeout 1e-09 s" in err
    code, out, _ = shown("replay a.run --timeout 600")
    assert code == 0
    assert "agree" in out
