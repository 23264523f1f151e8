"""What takes longer than a second says what it does: on a terminal, and nowhere else."""

from __future__ import annotations

import io
import sys
import time

import pytest

from shstk.cli.terminal import Progress, working


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest sets sys.stderr anew before each test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_what_takes_long_is_named_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with working("judging a.run"):
        time.sleep(1.3)
    text = shown.getvalue()
    assert "judging a.run, 1 s" in text
    assert text.endswith("\r\x1b[K")


def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    with working("judging a.run"):
        pass
    assert "judging" not in shown.getvalue()


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with working("judging a.run"):
        time.sleep(1.2)
    assert stream.getvalue() == ""


def test_instructions_of_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = terminal(monkeypatch)
    progress = Progress(20_000_000)
    progress(1_000_000)
    assert shown.getvalue() == ""
    time.sleep(1.1)
    progress(5_000_000)
    assert "5 of 20 M instructions" in shown.getvalue()
