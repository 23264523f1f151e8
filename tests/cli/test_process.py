"""The command as a process: pipes that close, files that are full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

import shstk

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

PROGRAM = Path(shstk.__file__).parent / "guests/pthread.elf"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "shstk", *map(str, arguments)]


def run(
    arguments: list[str], cwd: Path, stdout: IO[bytes] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        arguments,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shstk.record(PROGRAM, out=tmp_path_factory.mktemp("runs") / "p.run").path


def closed_pipe() -> int:
    """A pipe to write to whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("words", [("log",), ("check",), ("query", "SELECT * FROM cfi")])
def test_a_reader_that_has_gone_is_no_finding(recorded: Path, words: tuple[str, ...]) -> None:
    name, *rest = words
    done = run(command(name, recorded, *rest), recorded.parent, stdout=closed_pipe())
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_recording_goes_on_without_its_reader(tmp_path: Path) -> None:
    done = run(command("record", PROGRAM), tmp_path, stdout=closed_pipe())
    assert done.returncode == 0
    assert shstk.open(tmp_path / "pthread.run").manifest.ending == "exited"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_finds_no_room(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = run(command("record", PROGRAM), tmp_path, stdout=full)
    assert done.returncode == 3
    assert b"No space left" in done.stderr
    assert shstk.open(tmp_path / "pthread.run").manifest.ending == "exited"


def test_without_standard_output(recorded: Path) -> None:
    line = " ".join(command("check", recorded)) + " >&- 2>&-"
    assert run(["sh", "-c", line], recorded.parent).returncode == 0


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    line = "ulimit -f 1; exec " + " ".join(command("record", PROGRAM))
    done = run(["sh", "-c", line], tmp_path)
    assert done.returncode == 3
    assert b"cannot write" in done.stderr
    assert b"kept" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_guest_and_keeps_its_run(tmp_path: Path, signo: signal.Signals) -> None:
    (tmp_path / "endless").write_bytes(riscv_asm.program("again: j again"))
    before = signal.signal(signo, signal.SIG_DFL)  # nohup has SIGHUP ignored, also in children
    process = subprocess.Popen(
        command("record", "endless"), cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    signal.signal(signo, before)
    until = time.monotonic() + 300
    while (
        not list(tmp_path.glob("endless.run.partial/progress.jsonl")) and time.monotonic() < until
    ):
        time.sleep(0.01)
    process.send_signal(signo)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0
    assert said.startswith(b"shstk: interrupted, ")
    assert shstk.open(tmp_path / "endless.run").manifest.ending == "interrupted"


def test_ctrl_c_ends_a_guest_that_is_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "endless").write_bytes(riscv_asm.program("report a0\nagain: j again"))
    process = subprocess.Popen(
        command("exec", "endless"),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(8) == bytes(8)  # it has begun
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said) == (130, b"shstk: interrupted\n")
