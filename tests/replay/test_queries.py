"""docs/queries.md: every query gives the answer that stands below it, on the guests it names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import shstk
from shstk.__main__ import run

ROOT = Path(__file__).parents[2]
_PART = re.compile(
    r"^## (?P<title>[^\n]+)$|^```sql\n(?P<sql>.*?)^```$"
    r"|^`(?P<guest>\S+)` under (?P<kernel>\S+):\n\n```text\n(?P<answer>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    title: str
    sql: str
    guest: str
    kernel: str
    answer: str


def examples() -> list[Example]:
    found, title, sql = [], "", ""
    for part in _PART.finditer((ROOT / "docs" / "queries.md").read_text()):
        title, sql = part["title"] or title, part["sql"] or sql
        if part["guest"]:
            found.append(Example(title, sql, part["guest"], part["kernel"], part["answer"]))
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    folder = tmp_path_factory.mktemp("runs")

    def record(guest: str, kernel: str) -> Path:
        out = folder / f"{guest}-{kernel}.run"
        if not out.exists():
            shstk.record(ROOT / "fixtures" / "bin" / f"{guest}.elf", kernel=kernel, out=out)
        return out

    return record


@pytest.mark.parametrize("example", examples(), ids=lambda e: f"{e.title[:2]}{e.guest}-{e.kernel}")
def test_the_answer(
    example: Example, recorded: Callable[[str, str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", str(recorded(example.guest, example.kernel)), example.sql]) == 0
    assert capfd.readouterr().out == example.answer


def test_there_are_ten_questions() -> None:
    titles = list(dict.fromkeys(example.title for example in examples()))
    assert [title.split(".")[0] for title in titles] == [str(n) for n in range(1, 11)]
