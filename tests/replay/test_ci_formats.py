"""`shstk check` for CI systems: what a reader of each format finds in it."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from listings import LEAK, WELL, threaded

import shstk
from shstk.replay.baseline import compare, identities, places
from shstk.replay.check import Report, check
from shstk.replay.explain import death
from shstk.replay.report import render
from shstk.schemas.tables import FINDINGS

HERE = Path(__file__).parent
NO_STACK = WELL.replace("map S2 ss; t2 created ssp=S2.top", "t2 created ssp=S1.top-8").replace(
    "unmap S2; ", ""
)


@pytest.fixture(scope="module")
def reports() -> list[Report]:
    return [check(threaded(LEAK)), check(threaded())]


def count(report: Report) -> int:
    return sum(len(result.findings) for result in report.results)


def test_sarif(reports: list[Report]) -> None:
    """Every result names its rule, by id and by place; the second run has none."""
    log = json.loads(render(reports, "sarif"))
    assert log["version"] == "2.1.0"
    first, second = log["runs"]
    assert second["results"] == []
    assert len(first["results"]) == count(reports[0]) > 0
    rules = first["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [r.rule.id for r in reports[0].results]
    for result in first["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"] == reports[0].run


@pytest.fixture(scope="module")
def schema() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="pip install jsonschema")
    text = lzma.decompress((HERE / "sarif" / "sarif-2.1.0.json.xz").read_bytes())
    return jsonschema.Draft202012Validator(json.loads(text))


def test_sarif_is_valid(reports: list[Report], schema: Any) -> None:
    """With consequences, a baseline, fingerprints, and a run with an odd name."""
    run = threaded(NO_STACK)
    found = replace(check(run), run="a b%.run")
    known = replace(found, identities={id(f): one for f, one in identities(run, found)})
    compared = replace(known, compared=compare(run, known, {}, "known.json"))
    for report in (found, known, compared, *reports):
        log = json.loads(render([report], "sarif"))
        assert [error.message for error in schema.iter_errors(log)] == []
        for result in log["runs"][0]["results"]:
            del result["message"]
            assert [e.message for e in schema.iter_errors(log)] == [
                "'message' is a required property"
            ]
            result["message"] = {"text": ""}


def test_sarif_tells_the_same_finding_in_another_recording() -> None:
    """By where and what it is: not by place."""
    prints = []
    for body in (NO_STACK, NO_STACK.replace("30  t1 clone", "25  t1 clone")):
        run = threaded(body)
        found = check(run)
        known = replace(found, identities={id(f): one for f, one in identities(run, found)})
        (log,) = json.loads(render([known], "sarif"))["runs"]
        prints.append([r["partialFingerprints"]["shstk/v1"] for r in log["results"]])
    assert prints[0] == prints[1]
    assert len(set(prints[0])) == len(prints[0]) > 1


def test_junit(reports: list[Report]) -> None:
    root = ElementTree.fromstring(render(reports, "junit").encode())
    for suite, report in zip(root, reports, strict=True):
        assert int(suite.attrib["tests"]) == len(suite) == len(report.results)
        failed = [case for case in suite if case.find("failure") is not None]
        skipped = [case for case in suite if case.find("skipped") is not None]
        assert len(failed) == int(suite.attrib["failures"]) == len(report.of("violated"))
        assert len(skipped) == int(suite.attrib["skipped"]) == len(report.of("not evaluated"))


def test_junit_holds_whatever_a_run_is_called(reports: list[Report]) -> None:
    named = replace(reports[0], run="a\x1b[1m<&\n.run")
    root = ElementTree.fromstring(render([named], "junit").encode())
    assert root[0].attrib["name"].startswith("a\\x1b[1m<&")


def test_github(reports: list[Report]) -> None:
    """One for the causes that are alike: GitHub shows no more than ten of a step."""
    lines = render(reports, "github").splitlines()
    assert len(lines) == len(reports[0].kinds) > 0
    title = reports[0].of("violated")[0].rule
    assert lines[0].startswith(f"::{title.severity} title={title.id} {title.slug}::")


def test_github_tells_what_follows() -> None:
    (line,) = render([check(threaded(NO_STACK), select=["A5", "A7"])], "github").splitlines()
    assert "title=A5 thread-gets-own-stack" in line
    assert line.endswith("Leads to A7 thread-starts-at-its-top (1).")


def test_function_and_line_where_the_run_has_symbols(tmp_path: Path, schema: Any) -> None:
    guest = HERE.parents[1] / "fixtures" / "bin" / "faulty.elf"
    run = shstk.open(shstk.record(guest, "two-tasks", kernel="v3", out=tmp_path / "a.run").path)
    report = check(run)
    placed = replace(report, places=places(run, report))
    log = json.loads(render([placed], "sarif"))
    assert [error.message for error in schema.iter_errors(log)] == []
    locations = [result["locations"][0] for result in log["runs"][0]["results"]]
    lines = [x for x in locations if x["physicalLocation"].get("region", {}).get("startLine")]
    assert lines
    for location in lines:
        assert location["physicalLocation"]["artifactLocation"]["uri"].startswith("fixtures/")
        assert location["logicalLocations"][1]["kind"] == "function"
    assert ",file=" in render([placed], "github")


def test_a_death_that_fails_the_job_is_in_each_format(tmp_path: Path, schema: Any) -> None:
    """As an error where it fails the job. A job that is red and says nothing helps nobody."""
    guest = HERE.parents[1] / "fixtures" / "bin" / "faulty.elf"
    run = shstk.open(shstk.record(guest, "smashed", out=tmp_path / "a.run").path)
    report, dead = check(run), death(run)
    assert report.clean
    assert dead
    for deadly, level in ((True, "error"), (False, "warning")):
        (said,) = render([report], "github", deaths=[dead], deadly=deadly).splitlines()
        assert said.startswith(f"::{level} title=killed by SIGSEGV,file=fixtures/programs/faulty.c")
        assert "a.run: task 100 was killed by SIGSEGV (SEGV_CPERR) at " in said
        assert "Likely cause: the return address in ordinary memory was overwritten" in said
        log = json.loads(render([report], "sarif", deaths=[dead], deadly=deadly))
        assert [error.message for error in schema.iter_errors(log)] == []
        (result,) = log["runs"][0]["results"]
        assert (result["ruleId"], result["level"]) == ("guest-death", level)
        rules = log["runs"][0]["tool"]["driver"]["rules"]
        assert rules[result["ruleIndex"]]["id"] == "guest-death"
        (suite,) = ElementTree.fromstring(
            render([report], "junit", deaths=[dead], deadly=deadly).encode()
        )
        assert int(suite.attrib["tests"]) == len(suite)
        failed = [case.attrib["name"] for case in suite if case.find("failure") is not None]
        assert failed == ["guest-death"] * deadly
        assert int(suite.attrib["failures"]) == deadly
    (suite,) = ElementTree.fromstring(render([report], "junit", deadly=True).encode())
    assert suite[0].attrib["name"] == "guest-death"
    assert len(suite[0]) == int(suite.attrib["failures"]) == 0


def test_github_takes_no_commands_from_a_guest(reports: list[Report]) -> None:
    named = replace(reports[0], run="a\n::error::b%")
    assert "\n::error::b" not in render([named], "github")
    assert "a%0A::error::b%25" in render([named], "github")


def test_jsonl(reports: list[Report]) -> None:
    rows = [json.loads(line) for line in render(reports, "jsonl").splitlines()]
    assert len(rows) == sum(report.findings.height for report in reports)
    assert list(rows[0]) == ["run", *FINDINGS.names]
    assert sum(row["outcome"] == "violated" for row in rows) == count(reports[0])
