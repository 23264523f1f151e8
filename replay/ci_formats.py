"""Reports for machines that read them beside a source tree: SARIF, JUnit, GitHub's annotations, and
one JSON object a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

from shstk.replay.causes import listed
from shstk.schemas import seq as positions
from shstk.schemas.tables import FINDINGS
from shstk.schemas.units import show
from shstk.schemas.version import VERSION

if TYPE_CHECKING:
    from shstk.replay.causes import Kind
    from shstk.replay.check import Report
    from shstk.replay.rules.outcome import Finding, Result, Rule, Violation

_SARIF: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_FINGERPRINT: Final = "shstk/v1"
# severity -> SARIF's level; GitHub's command
_LEVELS: Final = {"error": "error", "warning": "warning", "info": "note"}
_COMMANDS: Final = {"error": "error", "warning": "warning", "info": "notice"}


def _where(finding: Finding) -> str:
    task = f" task {finding.tid}" if finding.tid is not None else ""
    return f"{positions.show(finding.seq)}{task}"


def _sentence(finding: Finding) -> str:
    return f"expected {finding.expected}; actual {finding.actual}. {finding.note}"


def sarif(reports: Sequence[Report]) -> str:
    """SARIF 2.1.0 (OASIS): one run of the tool for each report."""
    log = {"$schema": _SARIF, "version": "2.1.0", "runs": [_sarif_run(r) for r in reports]}
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"


def _sarif_run(report: Report) -> dict[str, Any]:
    rules = [result.rule for result in report.results]
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    related = _related(report)
    found = [violation for result in report.results for violation in result.violations]
    driver = {"name": "shstk", "version": VERSION, "rules": [_sarif_rule(r) for r in rules]}
    return {
        "tool": {"driver": driver},
        "properties": {"kernel": report.row.name, "expect": report.expect},
        "results": [
            _sarif_result(report, v, numbers[v.rule.id], related.get(id(v.finding), []))
            for v in found
        ],
    }


def _related(report: Report) -> dict[int, list[dict[str, Any]]]:
    """What a finding leads to and what it follows from, as locations, by the finding's id."""
    related: dict[int, list[dict[str, Any]]] = {}
    for violation, root in listed(report.causes):
        if root:
            both = ((violation, root, "follows from"), (root, violation, "leads to"))
            for here, there, how in both:
                message = f"{how} {there.rule.id} {there.rule.slug}"
                location = _location(report, there.finding) | {"message": {"text": message}}
                related.setdefault(id(here.finding), []).append(location)
    return related


def _location(report: Report, finding: Finding) -> dict[str, Any]:
    """A line of a source, and its function, where the run has symbols; else the run. In either, a
    position of the run and a task."""
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(report.run)}}
    logical: list[dict[str, Any]] = [{"fullyQualifiedName": _where(finding)}]
    if place := report.places.get(id(finding)):
        logical.append({"name": place.symbol, "kind": "function"})
        if place.file and place.line:
            physical = {
                "artifactLocation": {"uri": quote(place.file)},
                "region": {"startLine": place.line},
            }
    return {"physicalLocation": physical, "logicalLocations": logical}


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.slug.split("-")),
        "shortDescription": {"text": rule.title},
        "help": {"text": f"{rule.doc}\nsource: {rule.source}"},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _sarif_result(
    report: Report, violation: Violation, number: int, related: list[dict[str, Any]]
) -> dict[str, Any]:
    rule, finding = violation.rule, violation.finding
    return {
        "ruleId": rule.id,
        "ruleIndex": number,
        "level": _LEVELS[rule.severity],
        "message": {"text": f"{_where(finding)}: {_sentence(finding)}"},
        "locations": [_location(report, finding)],
        **_known(report, finding),
        "relatedLocations": [{"id": i, **one} for i, one in enumerate(related)],
        "properties": {
            "evidence": [positions.show(seq) for seq in finding.evidence],
            "doubtful": violation.doubtful,
        },
    }


def _known(report: Report, finding: Finding) -> dict[str, Any]:
    """What tells that it is the same as in another recording, and whether it is in a baseline."""
    told: dict[str, Any] = {}
    if identity := report.identities.get(id(finding)):
        told["partialFingerprints"] = {_FINGERPRINT: identity.digest}
    if report.compared is not None:
        told["baselineState"] = "new" if report.counts(finding) else "unchanged"
    return told


def junit(reports: Sequence[Report]) -> str:
    """JUnit's XML: a suite for each run, a case for each rule, skipped if not evaluated."""
    root = ElementTree.Element("testsuites", name="shstk")
    for report in reports:
        violated = [r for r in report.results if any(map(report.counts, r.findings))]
        skipped = report.of("not evaluated")
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_plain(f"{report.run} ({report.row.name}, {report.expect})"),
            tests=str(len(report.results)),
            failures=str(len(violated)),
            skipped=str(len(skipped)),
            errors="0",
        )
        for result in report.results:
            _case(suite, report, result)
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(suite: ElementTree.Element, report: Report, result: Result) -> None:
    rule = result.rule
    case = ElementTree.SubElement(
        suite, "testcase", classname=_plain(report.run), name=f"{rule.id} {rule.slug}"
    )
    if found := list(filter(report.counts, result.findings)):
        count = len(found)
        lines = [f"{_where(f)}: {_sentence(f)}" for f in found]
        failure = ElementTree.SubElement(
            case, "failure", type=rule.severity, message=f"violated {count}×: {rule.title}"
        )
        failure.text = _plain("\n".join([*lines, f"source: {rule.source}"]))
    elif result.not_evaluated:
        ElementTree.SubElement(case, "skipped", message=_plain(result.not_evaluated))


def _plain(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold: a guest may name files with them."""
    return "".join(c if c >= " " or c in "\t\n" else f"\\x{ord(c):02x}" for c in text)


def github(reports: Sequence[Report]) -> str:
    """Workflow commands of GitHub's actions: an annotation for the causes that are alike, which
    tells what follows from them. GitHub shows ten of a step."""
    return "".join(_annotation(report, kind) for report in reports for kind in report.kinds)


def _annotation(report: Report, kind: Kind) -> str:
    rule, first = kind.rule, kind.causes[0].root.finding
    place = report.places.get(id(first))
    fields = {"title": f"{rule.id} {rule.slug}"}
    if place and place.file and place.line:
        fields |= {"file": place.file, "line": str(place.line)}
    said = [f"{report.run}: {_where(first)}: {_sentence(first)}"]
    if more := len(kind.causes) - 1:
        said.append(f"{more} more like it.")
    follows = {
        rule: sum(report.counts(v.finding) for v in found)
        for rule, found in kind.consequences.items()
    }
    if told := [f"{rule.id} {rule.slug} ({n})" for rule, n in follows.items() if n]:
        said.append(f"Leads to {', '.join(told)}.")
    properties = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in fields.items())
    return f"::{_COMMANDS[rule.severity]} {properties}::{_escaped(' '.join(said))}\n"


def _escaped(text: str, more: str = "") -> str:
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" + more else c for c in text)


def jsonl(reports: Sequence[Report]) -> str:
    """One object a line, with the columns of FINDINGS and the run, as the CSV has them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for r in reports for row in _rows(r))


def _rows(report: Report) -> Iterator[dict[str, Any]]:
    units = FINDINGS.units
    for row in report.findings.iter_rows(named=True):
        yield {"run": report.run} | {name: show(units[name], v) for name, v in row.items()}


CI_FORMATS: Final[dict[str, Callable[[Sequence[Report]], str]]] = {
    "sarif": sarif,
    "junit": junit,
    "github": github,
    "jsonl": jsonl,
}
