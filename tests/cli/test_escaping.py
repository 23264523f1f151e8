"""What a guest names its files and arguments does nothing to a terminal or a spreadsheet."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shstk
from shstk.__main__ import run
from shstk.cli.escaping import escaped

sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))

import riscv_asm

NAME = "a\x1b[2J\x1b]0;owned\x07\x9b31m\u202etxt\rb"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07\x9b31m\u202etxt\x0db"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("escape")
    (work / NAME).write_bytes(riscv_asm.program("exit 0"))
    result = shstk.record(work / NAME, NAME, "=cmd()", out=work / "run", env={"X": NAME})
    return result.path


COMMANDS = [
    ["info", "RUN"],
    ["log", "RUN"],
    ["check", "RUN"],
    ["stacks", "RUN"],
    ["query", "RUN", "SELECT * FROM inputs"],
    ["query", "RUN", "SELECT * FROM inputs", "--format", "csv"],
    ["diff", "RUN", "RUN"],
    ["verify", "RUN"],
    ["replay", "RUN"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_reaches_the_terminal(
    words: list[str], recorded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run([str(recorded) if word == "RUN" else word for word in words])
    said = "".join(capfd.readouterr())
    assert said
    assert {c for c in said if escaped(c) != c} == set()
    assert said.count(SHOWN) == len(said.split(SHOWN[:6])) - 1, "each is shown whole"


def test_it_is_seen_in_info(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["info", str(recorded)]) == 0
    assert f" X={SHOWN}\n" in capfd.readouterr().out


def test_an_error_names_a_file_harmlessly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "gone\x9b\x1b[8m"
    assert run(["exec", "--stdin", os.devnull, str(tmp_path / name)]) == 3
    assert r"gone\x9b\x1b[8m: no such file" in capfd.readouterr().err


def test_colors_are_kept(
    recorded: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["exec", "--stdin", os.devnull, "gone"]) == 3
    assert capfd.readouterr().err.startswith("\x1b[31m\x1b[1merror\x1b[0m: gone")


def test_a_formula_is_text_in_csv(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT '=cmd()' AS a, '-1+f(x)' AS b, '-rwx' AS c, -1 AS d FROM modules LIMIT 1"
    assert run(["query", str(recorded), sql, "--format", "csv"]) == 0
    assert capfd.readouterr().out == "a,b,c,d\n'=cmd(),'-1+f(x),-rwx,-1\n"


@given(st.text(st.characters(exclude_categories=())))
def test_escaping_is_final_and_keeps_lines(text: str) -> None:
    assert escaped(escaped(text)) == escaped(text)
    assert escaped(text).count("\n") == text.count("\n")
    left = re.sub("\x1b\\[[0-9]+m", "", escaped(text))
    assert {c for c in left if category(c) in ("Cc", "Cs") and c not in "\n\t"} == set()
