"""A project's settings: where they are found, what they set, and that the command line wins."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import shstk
from shstk.cli import cli
from shstk.schemas.errors import Exit, UsageError

GUEST = Path(shstk.__file__).parent / "guests" / "pthread.elf"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "v3.run"
    shstk.record(GUEST, kernel="v3", out=out)
    return out


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder in it, in which commands run."""
    inner = tmp_path / "project" / "src"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return inner.parent


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)), standalone_mode=False)


def rules(run: Path, *arguments: object) -> set[str]:
    """The violated rules, by what check prints."""
    done = invoke("check", run, "--format", "json", *arguments)
    (report,) = json.loads(done.output)
    return {finding["rule"] for finding in report["findings"]}


def test_the_nearest_file_is_taken(project: Path, run: Path) -> None:
    assert rules(run) == {"A5", "A7", "X1", "I3"}
    (project / "pyproject.toml").write_text('[tool.shstk]\nselect = ["A", "X1"]\n')
    assert rules(run) == {"A5", "A7", "X1"}
    (project / "src" / "pyproject.toml").write_text("[tool.other]\n")  # has no settings
    assert rules(run) == {"A5", "A7", "X1"}
    (project / "shstk.toml").write_text('select = ["I"]\n')
    assert rules(run) == {"I3"}


def test_the_command_line_wins(project: Path, run: Path) -> None:
    (project / "shstk.toml").write_text(
        'select = ["I"]\nignore = ["A7"]\n[per-program."pthread*"]\nselect = ["X"]\n'
    )
    assert rules(run) == {"X1"}
    assert rules(run, "--select", "A") == {"A5"}
    assert rules(run, "--select", "A", "--ignore", "A5") == {"A7"}
    assert rules(run, "--no-config") == {"A5", "A7", "X1", "I3"}
    other = project / "other.toml"
    other.write_text('ignore = ["A5", "A7"]\n')
    assert rules(run, "--config", other) == {"X1", "I3"}


def test_what_is_set_for_a_program_is_for_it_alone(project: Path, run: Path) -> None:
    (project / "shstk.toml").write_text(
        'ignore = ["I3"]\n[per-program."other*"]\nselect = ["N1"]\n'
        '[per-program."*.elf"]\nignore = ["A"]\n[per-program."p*"]\nexpect = "revision"\n'
    )
    assert rules(run) == set()  # v3 does what v3's code does
    assert rules(run, "--expect", "intent") == {"X1", "I3"}


def test_fail_on(project: Path, tmp_path: Path) -> None:
    faulty = Path(__file__).parents[2] / "fixtures" / "bin" / "faulty.elf"
    shstk.record(faulty, "longjmp", out=tmp_path / "a.run")
    assert invoke("check", tmp_path / "a.run").return_value == Exit.OK
    (project / "shstk.toml").write_text('fail-on = ["guest-death"]\n')
    assert invoke("check", tmp_path / "a.run").return_value == Exit.FINDINGS


def test_matrix_takes_its_kernels(project: Path, run: Path) -> None:
    (project / "shstk.toml").write_text('kernels = ["v3", "v6"]\n')
    header = invoke("matrix", "--format", "csv", GUEST).output.splitlines()[0]
    assert header == "rule,slug,v3,v6,changes"


def test_a_report_and_a_timeline_take_them(project: Path, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    (project / "shstk.toml").write_text(
        'ignore = ["I3"]\n[per-program."p*"]\nselect = ["I", "X"]\n'
    )
    page = tmp_path / "page.html"
    assert invoke("report", run, "-o", page).return_value == Exit.FINDINGS
    assert "X1 exit-releases-once" in page.read_text()
    assert "thread-gets-own-stack" not in page.read_text()
    assert invoke("report", run, "-o", page, "--force", "--select", "I").return_value == Exit.OK
    assert invoke("timeline", run, "-o", tmp_path / "t", "--select", "Z99").exit_code != 0


def test_where_a_value_comes_from(project: Path, run: Path) -> None:
    path = project / "shstk.toml"
    path.write_text('select = ["A", "X1"]\n[per-program."pthread*"]\nignore = ["A6"]\n')
    rows = [line.split(None, 2) for line in invoke("check", "--show-config").output.splitlines()]
    assert ["select", "A,X1", str(path)] in rows
    assert ["expect", "intent", "default"] in rows
    text = invoke("check", run, "--show-config", "--select", "X").output
    assert "the command line" in text
    assert f"ignore of pthread.elf  A6      {path}, per-program pthread*" in text
    assert str(path) not in invoke("check", "--show-config", "--no-config").output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('selct = ["A"]', "unknown key 'selct'"),
        ('select = "A"', "select is not a list of texts"),
        ("expect = 1", "expect is not text"),
        ("select = [", "Invalid value"),
        ('[per-program."a*"]\nkernels = ["v3"]', "unknown key 'kernels'"),
        ("per-program = 1", "per-program is no table of tables"),
        ('select = ["A55"]', "no rule 'A55'"),
        ('expect = "hope"', "expect: 'hope' is not one of"),
        ('[per-program."a*"]\nexpect = "hope"', "expect: 'hope' is not one of"),
        ('fail-on = ["rain"]', "fail-on: 'rain' is not"),
    ],
)
def test_a_mistake_is_wrong_usage(project: Path, run: Path, text: str, says: str) -> None:
    (project / "shstk.toml").write_text(text)
    error = invoke("check", run).exception
    assert isinstance(error, UsageError)
    assert error.exit == Exit.USAGE
    assert says in error.what
    assert "shstk.toml" in str(error)


def test_a_mistyped_key_is_answered_with_the_nearest(project: Path, run: Path) -> None:
    (project / "shstk.toml").write_text('ignored = ["A"]')
    error = invoke("check", run).exception
    assert isinstance(error, UsageError)
    assert error.hint.startswith("did you mean ignore?")


def test_contradictions_and_missing_files(project: Path, run: Path) -> None:
    (project / "shstk.toml").write_text("")
    both = ("--config", project / "shstk.toml", "--no-config")
    for arguments in (both, (*both[2:], *both[:2])):
        assert isinstance(invoke("check", run, *arguments).exception, click.UsageError)
    assert isinstance(invoke("check", run, "--config", "none.toml").exception, FileNotFoundError)


def test_help_needs_no_settings(project: Path) -> None:
    (project / "shstk.toml").write_text("what = [")
    assert "Usage" in invoke("check", "--help").output
