"""Rules from outside: loaded from files and entry points, tested as ours are, guarded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import shstk
from shstk.cli import cli
from shstk.replay.rules import RULES
from shstk.replay.rules.own import BadRule, catalogue
from shstk.schemas.errors import Exit

OWN = Path(__file__).parent / "own" / "stacks_are_small.py"
GUEST = Path(shstk.__file__).parent / "guests" / "pthread.elf"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a.run"
    shstk.record(GUEST, out=out, kernel="v6")
    return out


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """The rule and its listing, to be changed."""
    for file in (OWN, OWN.with_suffix(".md")):
        shutil.copy(file, tmp_path)
    return tmp_path / OWN.name


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_it_judges_beside_ours(run: Path) -> None:
    report = shstk.check(run, select=["ACME", "X1"], rules_from=[OWN])
    assert [(r.rule.id, len(r.findings)) for r in report.results] == [("X1", 5), ("ACME1", 5)]
    assert shstk.check(run, select=["X1"]).of("violated")  # and is gone without the option
    text = invoke("check", run, "--rules-from", OWN, "--select", "ACME1").output
    assert "ACME1 stacks-are-small (warning): violated 5 times" in text
    assert "ACME1" in invoke("rules", "--rules-from", OWN).output
    assert "memory budget" in invoke("explain", "--rules-from", OWN, "acme1").output


def test_a_project_can_set_it(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(OWN, tmp_path)
    (tmp_path / "shstk.toml").write_text(f'rules-from = ["{OWN.name}"]\nselect = ["ACME"]\n')
    monkeypatch.chdir(tmp_path)
    assert "ACME1" in invoke("check", run).output


def test_it_is_sent_between_processes(tmp_path: Path) -> None:
    tried = list(
        shstk.explore(
            GUEST, seeds=range(2), jobs=2, rules_from=[OWN], select=["ACME1"], kernel="v6"
        )
    )
    assert [[r.rule.id for r in one.violated] for one in tried] == [["ACME1"]] * 2


def test_an_installed_package_has_rules(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "acme_rules"
    package.mkdir()
    (package / "__init__.py").write_text("")
    shutil.copy(OWN, package)
    info = tmp_path / "acme_rules-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rules\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[shstk.rules]\nsmall = acme_rules.stacks_are_small\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert catalogue().keys() - RULES.keys() == {"ACME1"}
    assert "ACME1" in invoke("check", run).output
    (info / "entry_points.txt").write_text("[shstk.rules]\nsmall = acme_rules.nowhere\n")
    with pytest.raises(BadRule, match=r"entry point small = acme_rules.nowhere: ModuleNotFound"):
        catalogue()


WRONG = {
    "syntax": ("def check(", "def check((", r"stacks_are_small\.py:\d+: "),
    "import": ("from shstk.replay.facts", "from shstk.replay.fact", r"\.py:\d+: ModuleNotFound"),
    "no id": ("ID = ", "NO = ", "has no ID"),
    "odd id": ('"ACME1"', '"acme-1"', "is not letters and a number"),
    "our id": ('"ACME1"', '"A5"', "the id A5 is that of thread-gets-own-stack"),
    "our family": ('"ACME1"', '"A77"', "ids of the family A are shstk's own"),
    "severity": ('"warning"', '"fatal"', "SEVERITY 'fatal' is none of"),
    "need": ('"mappings[shadow_stack]"', '"maps"', "there is no 'maps'"),
    "column": ('"mappings[shadow_stack]"', '"mappings.size"', "there is no 'mappings.size'"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_what_is_no_rule_is_told(edited: Path, mistake: str) -> None:
    old, new, says = WRONG[mistake]
    edit(edited, old, new)
    with pytest.raises(BadRule, match=says) as caught:
        catalogue([edited])
    assert caught.value.exit == Exit.INPUT


def test_two_rules_of_one_id(edited: Path) -> None:
    other = edited.with_name("other_rule.py")
    shutil.copy(edited, other)
    with pytest.raises(BadRule, match="the id ACME1 is that of stacks-are-small"):
        catalogue([edited, other])
    edit(other, "ACME1", "ACME2")
    assert catalogue([edited, other, edited]).keys() - RULES.keys() == {"ACME1", "ACME2"}
    with pytest.raises(BadRule, match="no such file"):
        catalogue([edited.with_name("none.py")])


def test_what_a_rule_raises_is_told_with_its_line(run: Path, edited: Path) -> None:
    edit(edited, "stack.area.size <= LIMIT", "stack.size <= LIMIT")
    line = edited.read_text().splitlines().index("        if stack.size <= LIMIT:") + 1
    error = invoke("check", run, "--rules-from", edited).exception
    assert isinstance(error, BadRule)
    assert error.what.startswith(f"{edited}:{line}: ACME1 raised AttributeError: ")
    edit(
        edited,
        "        if stack.size <= LIMIT:\n            yield OK",
        "        if 1:\n            yield 1",
    )
    error = invoke("check", run, "--rules-from", edited).exception
    assert isinstance(error, BadRule)
    assert "ACME1 yields 1: no outcome" in error.what


def test_its_listing_tests_it() -> None:
    done = invoke("test-rule", OWN)
    assert (done.return_value, done.output) == (Exit.OK, "ACME1 stacks-are-small: ok\n")


AMISS = {
    "blind": (".py", "<= LIMIT", "<= 9 * LIMIT", "expected: large violated ACME1"),
    "place": (".md", "30.2 t1", "30.1 t1", "found: large violated ACME1 30.2 t1"),
    "other rule": (".md", "map S2 ss; t2", "t2", "not expected: large violated A5"),
    "no violation": (".md", "large violated ACME1", "large satisfied A5", "expects ACME1 violated"),
    "unnamed": (".md", "none not-evaluated", "small not-evaluated", "is about the run none"),
    "heading": (".py", "## Example", "## Examples", "does not have just the headings"),
    "title": (".py", "4 MiB.\n\n## What", "4 MiB\n\n## What", "is not a sentence"),
}


@pytest.mark.parametrize("mistake", AMISS)
def test_what_is_amiss_is_told(edited: Path, mistake: str) -> None:
    suffix, old, new, says = AMISS[mistake]
    edit(edited.with_suffix(suffix), old, new)
    done = invoke("test-rule", edited)
    assert done.return_value == Exit.FINDINGS
    assert says in done.output
    assert done.output.endswith("ACME1 stacks-are-small: fails\n")


def test_a_rule_needs_a_listing(edited: Path) -> None:
    edited.with_suffix(".md").unlink()
    done = invoke("test-rule", edited)
    assert done.return_value == Exit.FINDINGS
    assert "stacks_are_small.md is missing" in done.output
