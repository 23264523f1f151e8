"""`shstk check --baseline`: known findings are counted, new ones fail, gone ones are said."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

import shstk
from shstk.cli import cli
from shstk.replay.baseline import BadBaseline
from shstk.schemas.errors import Exit

GUEST = Path(shstk.__file__).parent / "guests" / "pthread.elf"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v6 leaks the stacks of five tasks; late.run has other icounts and addresses."""
    folder = tmp_path_factory.mktemp("runs")
    shstk.record(GUEST, kernel="v6", out=folder / "a.run")
    shstk.record(GUEST, kernel="v6", seed=7, quantum=(50, 90), out=folder / "late.run")
    shstk.record(GUEST, kernel="7.2", out=folder / "good.run")
    return folder


@pytest.fixture(autouse=True)
def among_the_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """All that a.run has."""
    path = tmp_path / "baseline.json"
    assert invoke("a.run", "--write-baseline", path).return_value == Exit.OK
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)], standalone_mode=False)


def without(path: Path, task: str) -> None:
    """The baseline lacks the findings of a task."""
    whole = json.loads(path.read_text())
    (run,) = whole["runs"]
    run["findings"] = [row for row in run["findings"] if row["task"] != task]
    path.write_text(json.dumps(whole))


def test_known_findings_do_not_fail(baseline: Path) -> None:
    done = invoke("a.run", "--baseline", baseline)
    assert done.return_value == Exit.OK
    last = done.output.splitlines()[-1]
    assert last.startswith("a.run: no new findings; 5 in the baseline; ")
    assert "violated" not in done.output


def test_another_recording_has_the_same_findings(baseline: Path) -> None:
    """The identity has no address, icount or tid in it."""
    seqs = [
        shstk.check(run, select=["X1"]).violated["seq"].to_list() for run in ("a.run", "late.run")
    ]
    assert not set(seqs[0]) & set(seqs[1])
    assert invoke("late.run", "--baseline", baseline).return_value == Exit.OK


def test_a_new_finding_is_shown_alone(baseline: Path) -> None:
    without(baseline, "main/clone#2")
    done = invoke("a.run", "--baseline", baseline)
    assert done.return_value == Exit.FINDINGS
    assert "X1 exit-releases-once (error): violated 1 time\n" in done.output
    assert "task 102" in done.output
    assert "task 101" not in done.output
    assert "1 new finding, 1 cause: X1 (1); 4 in the baseline" in done.output.splitlines()[-1]


def test_what_is_gone_is_said(baseline: Path) -> None:
    """Not for rules that were not judged, nor for other kernels."""
    text = baseline.read_text()
    baseline.write_text(text.replace('"v6"', '"7.2"'))
    done = invoke("good.run", "--baseline", baseline)
    assert done.return_value == Exit.OK
    assert "gone, though in the baseline" in done.output
    assert "\n  X1 of main/clone#2 in pthread.elf\n" in done.output
    assert "gone" not in invoke("good.run", "--baseline", baseline, "--select", "A").output
    baseline.write_text(text)
    assert "gone" not in invoke("good.run", "--baseline", baseline).output


def test_formats_tell_new_from_known(baseline: Path) -> None:
    without(baseline, "main/clone#2")
    said = {
        name: invoke("a.run", "--baseline", baseline, "--format", name).output
        for name in ("json", "sarif", "junit", "github")
    }
    (report,) = json.loads(said["json"])
    assert [f["known"] for f in report["findings"]] == [True, False, True, True, True]
    (run,) = json.loads(said["sarif"])["runs"]
    states = [result["baselineState"] for result in run["results"]]
    assert states == ["unchanged", "new", *["unchanged"] * 3]
    (suite,) = ElementTree.fromstring(said["junit"].encode())
    assert suite.attrib["failures"] == "1"
    assert len(said["github"].splitlines()) == 1
    baseline_of_all = invoke("a.run", "--write-baseline", baseline).return_value
    assert baseline_of_all == Exit.OK
    none = invoke("a.run", "--baseline", baseline, "--format", "junit").output
    assert ElementTree.fromstring(none.encode())[0].attrib["failures"] == "0"


def test_several_runs_of_one_command(baseline: Path) -> None:
    """A baseline of several runs holds as many of each as the run that has most."""
    invoke("a.run", "a.run", "late.run", "--write-baseline", baseline)
    (run,) = json.loads(baseline.read_text())["runs"]
    assert {row["count"] for row in run["findings"]} == {1}


def test_it_can_be_set_for_a_project(baseline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (baseline.parent / "shstk.toml").write_text('baseline = "baseline.json"\n')
    run = Path("a.run").resolve()
    inner = baseline.parent / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert invoke(run).return_value == Exit.OK
    assert invoke(run, "--no-config").return_value == Exit.FINDINGS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not a baseline"),
        ("[]", "is not a baseline"),
        ('{"version": 1, "runs": [{"command": "a"}]}', "is not a baseline: 'kernel'"),
        ('{"version": 2, "runs": []}', "version 2 of the format"),
        (
            '{"version": 1, "runs": [{"command": "a", "kernel": "v6", "expect": "intent",'
            ' "findings": [{"rule": "A99", "task": "", "function": "", "follows_from": "",'
            ' "count": 1}]}]}',
            "is stale: there is no rule A99",
        ),
    ],
)
def test_a_file_that_is_no_baseline(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    error = invoke("a.run", "--baseline", tmp_path / "bad.json").exception
    assert isinstance(error, BadBaseline)
    assert error.exit == Exit.INPUT
    assert says in error.what
    assert "--write-baseline" in error.hint


def test_a_finding_is_known_by_task_function_and_cause(tmp_path: Path) -> None:
    guest = Path(__file__).parents[2] / "fixtures" / "bin" / "faulty.elf"
    shstk.record(guest, "two-tasks", kernel="v3", out=tmp_path / "a.run")
    invoke(tmp_path / "a.run", "--write-baseline", tmp_path / "known.json")
    (run,) = json.loads((tmp_path / "known.json").read_text())["runs"]
    assert (run["command"], run["kernel"]) == ("faulty.elf two-tasks", "v3")
    shown = [
        [row[n] for n in ("rule", "task", "function", "follows_from")] for row in run["findings"]
    ]
    assert ["A5", "main/clone#2", "clone_task", ""] in shown
    assert ["I3", "main/clone#2", "two", "A5"] in shown
    assert ["X8", "main", "two_tasks", ""] in shown
