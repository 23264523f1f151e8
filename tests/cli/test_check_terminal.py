"""`shstk check` on a terminal, in a pipe, and as the last word of a CI job."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

import shstk
from shstk.__main__ import run as main
from shstk.cli import cli
from shstk.schemas.errors import Exit

FIXTURES = Path(__file__).parents[2] / "fixtures" / "bin"
COLOR = "\x1b["
SHSTK = (sys.executable, "-P", "-m", "shstk")
PAGED = "in the pager"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Threads on one stack, of which one dies."""
    out = tmp_path_factory.mktemp("runs") / "turns.run"
    shstk.record(FIXTURES / "taking-turns.elf", kernel="v3", out=out)
    return out


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["check", *arguments], standalone_mode=False)
    return done.return_value, done.output


def on_terminal(run: Path, *arguments: str, columns: int = 80, rows: int = 200, **env: str) -> str:
    """What a terminal of that size receives."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    unset = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "LESS")
    whole = {k: v for k, v in os.environ.items() if k not in unset} | {"TERM": "xterm"} | env
    command = [*SHSTK, "check", str(run), "--select", "A5,A7,I3"]
    started = subprocess.Popen([*command, *arguments], stdin=theirs, stdout=theirs, env=whole)
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 65536):
            text += part
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    assert started.wait(60) == Exit.FINDINGS
    return text.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_lines_fit_the_terminal(run: Path, columns: int) -> None:
    plain = re.sub(r"\x1b\[[\d;]*m", "", on_terminal(run, columns=columns))
    assert columns // 2 < max(map(len, plain.splitlines())) <= columns


def test_color_is_for_terminals(run: Path) -> None:
    assert COLOR in on_terminal(run)
    assert COLOR not in on_terminal(run, NO_COLOR="1")
    assert COLOR not in on_terminal(run, NO_COLOR="1", FORCE_COLOR="1")
    done = subprocess.run([*SHSTK, "check", str(run)], capture_output=True, text=True, check=False)
    assert COLOR not in done.stdout


def test_color_can_be_forced(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["check", str(run)]) == Exit.FINDINGS
    assert COLOR in capfd.readouterr().out


def test_long_text_on_a_terminal_is_paged(run: Path, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\necho {PAGED}\ncat\n")
    pager.chmod(0o755)
    assert PAGED in on_terminal(run, rows=10, PAGER=str(pager))
    assert COLOR in on_terminal(run, rows=10, PAGER=str(pager))
    assert COLOR not in on_terminal(run, rows=10, PAGER=str(pager), NO_COLOR="1")
    assert PAGED not in on_terminal(run, "--no-pager", rows=10, PAGER=str(pager))
    assert PAGED not in on_terminal(run, "--format", "jsonl", rows=10, PAGER=str(pager))
    assert PAGED not in on_terminal(run, rows=200, PAGER=str(pager))


def test_lines_of_a_pipe_are_whole(run: Path) -> None:
    _, text = invoke(str(run))
    assert "one new shadow stack of 8 MiB, placed by the kernel, zero\n" in text
    assert max(map(len, text.splitlines())) > 150


def test_the_guests_death_is_said_first_and_in_the_last_line(run: Path) -> None:
    _, text = invoke(str(run))
    first = text.split("\n\n")[1]
    assert first.startswith("task 102 was killed by SIGSEGV (SEGV_CPERR) at ")
    assert text.splitlines()[-1].startswith(
        "turns.run: killed by SIGSEGV; 11 findings, 2 causes: A5 (4), X8 (1); "
    )
    assert "              task 102 was killed by SIGSEGV" in text  # under A5, which led to it


def test_a_guests_death_fails_only_if_asked(tmp_path: Path) -> None:
    run = tmp_path / "longjmp.run"
    shstk.record(FIXTURES / "faulty.elf", "longjmp", out=run)
    assert invoke(str(run))[0] == Exit.OK
    assert invoke(str(run), "--fail-on", "guest-death")[0] == Exit.FINDINGS
