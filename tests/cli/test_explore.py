"""explore: the seed that shows a finding is found, named, and shows it again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run

FIXTURES = Path(__file__).parents[2] / "fixtures" / "bin"
DEADLOCKS = FIXTURES / "lock-order.elf"  # for some seeds


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def explore(line: str, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run(["explore", "--stdin", "/dev/null", *shlex.split(line)])
    return code, capfd.readouterr().out


def deadlocks(seed: int) -> bool:
    result = shstk.record(DEADLOCKS, seed=seed, quantum=(20, 120), out="one.run", force=True)
    return result.ending == "deadlock"


@pytest.mark.parametrize("jobs", [1, 2])
def test_it_stops_at_the_first_seed_that_fails(
    jobs: int, capfd: pytest.CaptureFixture[str]
) -> None:
    code, text = explore(f"-j {jobs} --quantum 20:120 {DEADLOCKS}", capfd)
    assert code == 1
    line = next(line for line in text.splitlines() if line.startswith("reproduce: "))
    words = shlex.split(line)[2:]
    seed = int(words[words.index("--seed") + 1])
    assert words[0] == "record"
    assert words[-1] == str(DEADLOCKS)
    assert "--quantum 20:120" in " ".join(words)
    assert [deadlocks(s) for s in range(seed + 1)] == [False] * seed + [True]
    kept = shstk.open(f"lock-order.seed{seed}.run")
    assert (kept.manifest.seed, kept.manifest.ending) == (seed, "deadlock")


def test_json_tells_of_every_seed(capfd: pytest.CaptureFixture[str]) -> None:
    code, text = explore(f"--seeds 6 --seed 2 --all --format json -k v6 {DEADLOCKS}", capfd)
    assert code == 1
    told = json.loads(text)
    assert [t["seed"] for t in told["tried"]] == [2, 3, 4, 5, 6, 7]
    assert {f["rule"] for t in told["tried"] for f in t["findings"]} == {"X1"}
    assert told["first"] == 2


def test_nothing_found(capfd: pytest.CaptureFixture[str]) -> None:
    code, text = explore(f"--seeds 3 {FIXTURES / 'sc4.elf'}", capfd)
    assert code == 0
    assert text.startswith("3 seeds tried, ")
    assert text.endswith("no findings\n")
    assert list(Path().iterdir()) == []


def test_findings_may_be_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    code, _ = explore(f"--seeds 2 -k v6 --ignore X1 {DEADLOCKS}", capfd)
    assert code == 0


@pytest.mark.parametrize("after", [0, 0.5, 3])
def test_ctrl_c_ends_all_its_processes_at_once(after: float) -> None:
    """The terminal sends SIGINT to each of them; those that are just starting too."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "shstk",
        "explore",
        "-j",
        "2",
        "--all",
        "--seeds",
        "5000",
    ]
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's & has it ignored
    process = subprocess.Popen(
        [*command, "--stdin", "/dev/null", DEADLOCKS],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    signal.signal(signal.SIGINT, before)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text():  # until shstk itself has started
        time.sleep(0.01)
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    *found, last = text.decode().strip().splitlines() or ["interrupted"]
    assert last == "interrupted"
    if found:  # what the seeds showed that were tried until then
        assert "tried" in found[0]
