"""Revisions from outside: a base and switches, in a file or installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import shstk
from shstk.cli import cli
from shstk.schemas.errors import Exit, UsageError
from shstk.schemas.own_revisions import BadRevision
from shstk.schemas.revisions import REVISIONS, resolve

GUEST = Path(shstk.__file__).parent / "guests" / "pthread.elf"
ACME = """base = "7.2"
[switches]
release_hook = "exit_thread"
default_size = "1:4G"
[sources]
release_hook = "acme.git 1a2b3c, process.c"
default_size = "(?) a mail"
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme.toml").write_text(ACME)
    return "acme.toml"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)


def test_it_stands_for_its_base_and_switches(acme: str) -> None:
    row, typed = resolve(acme), resolve("7.2,release_hook=exit_thread,default_size=1:4G")
    assert row.name == typed.name
    assert {n: s.value for n, s in row.settings.items()} == {
        n: s.value for n, s in typed.settings.items()
    }
    assert row.unturned == REVISIONS["7.2"]
    assert row.settings["release_hook"].source == "acme.git 1a2b3c, process.c"
    assert row.unconfirmed == ("default_size",)
    assert resolve(f"{acme}, clone_gate=inverted")["clone_gate"] == "inverted"
    assert resolve(f"{acme},clone_gate=inverted").name == f"{row.name},clone_gate=inverted"


def test_a_run_of_it_needs_no_file(acme: str) -> None:
    assert invoke("record", "--kernel", acme, "-o", "a.run", GUEST).exception is None
    Path(acme).unlink()
    report = shstk.check("a.run", select=["X1"])
    assert report.row.name == "7.2,release_hook=exit_thread,default_size=1:4G"
    assert len(report.violated) == 5  # it leaks, as v6 does
    assert shstk.replay_run("a.run").disagreement is None


def test_commands_take_it(acme: str) -> None:
    assert "acme.git 1a2b3c" in invoke("kernels", acme).output
    table = invoke("matrix", "--kernels", f"7.2,{acme}", GUEST).output
    assert "in 7.2" not in table
    assert "appears 7.2,release_hook=exit_thread,default_size=1:4G" in table
    (Path("elsewhere")).mkdir()
    Path(acme).rename("elsewhere/acme.toml")
    reports = shstk.matrix(GUEST, kernels=["elsewhere/acme.toml"])
    assert list(reports) == ["7.2,release_hook=exit_thread,default_size=1:4G"]


def test_a_package_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_kernels.py").write_text(
        'LEAKS = {"base": "7.2", "switches": {"release_hook": "exit_thread"}}\n'
    )
    info = tmp_path / "acme_kernels-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-kernels\nVersion: 1\n")
    entries = info / "entry_points.txt"
    entries.write_text("[shstk.revisions]\nacme-6 = acme_kernels:LEAKS\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("acme-6").name == "7.2,release_hook=exit_thread"
    with pytest.raises(UsageError) as caught:
        resolve("acme-7")
    assert "acme-6" in caught.value.hint
    entries.write_text("[shstk.revisions]\nacme-6 = acme_kernels:NOTHING\n")
    with pytest.raises(BadRevision, match="entry point acme-6"):
        resolve("acme-6")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("base =", "bases =", "unknown key 'bases'"),
        ('"7.2"', '"7.9"', "base '7.9' is none of"),
        ('"7.2"', "7", "base names no revision"),
        ("release_hook", "release_hooks", "unknown switch 'release_hooks=exit_thread'"),
        ('"exit_thread"', '"never"', "release_hook=never: no such value"),
        ('"1:4G"', '"huge"', "default_size=huge"),
        ('"1:4G"', "4", "switches is no table of texts"),
        ('default_size = "(?)', 'clone_gate = "(?)', "a source for clone_gate"),
        ("[switches]", "[switches", "acme.toml: "),
    ],
)
def test_what_is_wrong_is_told(acme: str, old: str, new: str, says: str) -> None:
    Path(acme).write_text(ACME.replace(old, new))
    error = invoke("record", "--kernel", acme, GUEST).exception
    assert isinstance(error, BadRevision)
    assert error.exit == Exit.INPUT
    assert error.what.startswith("acme.toml")
    assert says in error.what


def test_no_file_and_no_switches(acme: str) -> None:
    with pytest.raises(BadRevision, match=r"none\.toml: No such file"):
        resolve("none.toml")
    Path(acme).write_text('base = "7.2"\n')
    with pytest.raises(BadRevision, match=r"has no switches"):
        resolve(acme)
