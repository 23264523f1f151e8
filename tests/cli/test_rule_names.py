"""How rules are named on the command line: ids, names, families; what completes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

import shstk
from shstk.cli import cli
from shstk.replay.check import chosen
from shstk.schemas import seq as positions
from shstk.schemas.errors import UsageError


def ids(select: str, ignore: str = "") -> list[str]:
    return [rule.id for rule in chosen(select.split(","), ignore.split(",") if ignore else ())]


def test_a_family_is_all_its_rules() -> None:
    assert ids("X") == [f"X{n}" for n in range(1, 9)]
    assert ids("st") == ["ST1", "ST2"]
    assert ids("A1") == ["A1"]  # and not A10
    assert ids("X,frame-has-its-layout", ignore="X,A5") == ["G3"]


@pytest.mark.parametrize(
    ("word", "near"),
    [("A55", "did you mean A5"), ("exit-release-once", "did you mean exit-releases-once")],
)
def test_an_unknown_name_is_an_error_with_the_nearest(word: str, near: str) -> None:
    with pytest.raises(UsageError, match="no rule") as caught:
        chosen([word], ())
    assert caught.value.hint.startswith(near)
    assert "`shstk rules` lists them" in caught.value.hint


def completed(*arguments: str, incomplete: str) -> list[str]:
    found = ShellComplete(cli, {}, "shstk", "_SHSTK_COMPLETE")
    return [item.value for item in found.get_completions(list(arguments), incomplete)]


def test_completion() -> None:
    assert completed("check", "a.run", "--select", incomplete="N") == [
        "N1",
        "N",
        "no-support-no-stack",
        "no-use-after-release",
    ]
    assert completed("check", "a.run", "--ignore", incomplete="A5,bo") == [
        "A5,borrower-releases-nothing",
        "A5,borrower-keeps-the-parents-stack",
    ]
    assert completed("explore", "--select", incomplete="H") == completed("explain", incomplete="H")


def test_what_is_unknown_ends_a_command() -> None:
    done = CliRunner().invoke(cli, ["explain", "Q9"], standalone_mode=False)
    assert isinstance(done.exception, UsageError)
    done = CliRunner().invoke(cli, ["explain", "st"], standalone_mode=False)
    assert isinstance(done.exception, UsageError)
    assert done.exception.hint == "name one: ST1 ST2"


def test_runs_places_plugins_and_calls_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    guest = Path(__file__).parents[2] / "shstk" / "guests" / "pthread.elf"
    shstk.record(guest, kernel="v3", out="a.run")
    (tmp_path / "another").mkdir()
    assert completed("log", incomplete="a") == ["a.run"]
    (first, *_) = shstk.open("a.run").show("SELECT seq FROM clones").frame["seq"]
    place = positions.show(first)
    assert completed("log", "a.run", "--around", incomplete=place) == [place]
    assert completed("log", "--around", incomplete="1") == []
    assert completed("record", "--plugin", incomplete="insn") == ["insn_mix"]
    assert completed("log", "--calls", incomplete="openat,%mem") == ["openat,%memory"]
