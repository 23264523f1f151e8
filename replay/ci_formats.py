"""Reports for machines that read them beside a source tree: SARIF, JUnit, GitHub's annotations, and
one JSON object a line.

The death of a guest is no finding, but a job that it fails must say so: it is in each but the last,
as an error where it fails the job (`deadly`), else as a warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from xml.etree import ElementTree

from shstk.replay.causes import listed
from shstk.replay.decode import signal_name
from shstk.replay.explain.text import ending
from shstk.schemas import seq as positions
from shstk.schemas.tables import FINDINGS
from shstk.schemas.units import show
from shstk.schemas.version import VERSION

if TYPE_CHECKING:
    from shstk.replay.causes import Kind
    from shstk.replay.check import Report
    from shstk.replay.explain.model import Death
    from shstk.replay.rules.outcome import Finding, Result, Rule, Violation
    from shstk.replay.symbols import Place

    Judged = Sequence[tuple[Report, Death | None]]  # a report, and how a signal ended its guest

_DEATH: Final = "guest-death"  # as of --fail-on
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


def _told(death: Death) -> str:
    explained = death.explained
    if explained is None:
        return f"the guest was killed by {signal_name(death.signo)}"
    cause = explained.verdict.sentence
    return f"{ending(explained)}. {explained.title}. Likely cause: {cause}."


def _died_in(death: Death) -> Place | None:
    return death.explained.place if death.explained else None


def sarif(judged: Judged, deadly: bool) -> str:
    """SARIF 2.1.0 (OASIS): one run of the tool for each report."""
    runs = [_sarif_run(report, death, deadly) for report, death in judged]
    log = {"$schema": _SARIF, "version": "2.1.0", "runs": runs}
    return json.dumps(log, indent=1, ensure_ascii=False) + "\n"


def _sarif_run(report: Report, death: Death | None, deadly: bool) -> dict[str, Any]:
    rules = [result.rule for result in report.results]
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    related = _related(report)
    found = [violation for result in report.results for violation in result.violations]
    described = [_sarif_rule(rule) for rule in rules]
    results = [
        _sarif_result(report, v, numbers[v.rule.id], related.get(id(v.finding), [])) for v in found
    ]
    if death:
        described.append({"id": _DEATH, "shortDescription": {"text": "A signal kills the guest."}})
        results.append(_sarif_death(report, death, len(rules), deadly))
    return {
        "tool": {"driver": {"name": "shstk", "version": VERSION, "rules": described}},
        "properties": {"kernel": report.row.name, "expect": report.expect},
        "results": results,
    }


def _sarif_death(report: Report, death: Death, number: int, deadly: bool) -> dict[str, Any]:
    where = positions.show(death.explained.fault.seq) if death.explained else "its end"
    return {
        "ruleId": _DEATH,
        "ruleIndex": number,
        "level": "error" if deadly else "warning",
        "message": {"text": _told(death)},
        "locations": [_placed(report, where, _died_in(death))],
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
    return _placed(report, _where(finding), report.places.get(id(finding)))


def _placed(report: Report, where: str, place: Place | None) -> dict[str, Any]:
    """A line of a source, and its function, where the run has symbols; else the run. In either, a
    position of the run and a task."""
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(report.run)}}
    logical: list[dict[str, Any]] = [{"fullyQualifiedName": where}]
    if place and place.symbol:
        logical.append({"name": place.symbol, "kind": "function"})
    if place and place.file and place.line:
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


def junit(judged: Judged, deadly: bool) -> str:
    """JUnit's XML: a suite for each run, a case for each rule, skipped if not evaluated. Where a
    death fails the job, that the guest lives is a case too."""
    root = ElementTree.Element("testsuites", name="shstk")
    for report, death in judged:
        violated = [r for r in report.results if any(map(report.counts, r.findings))]
        skipped = report.of("not evaluated")
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_plain(f"{report.run} ({report.row.name}, {report.expect})"),
            tests=str(len(report.results) + deadly),
            failures=str(len(violated) + (deadly and death is not None)),
            skipped=str(len(skipped)),
            errors="0",
        )
        if deadly:
            case = ElementTree.SubElement(
                suite, "testcase", classname=_plain(report.run), name=_DEATH
            )
            if death:
                killed = f"killed by {signal_name(death.signo)}"
                failure = ElementTree.SubElement(case, "failure", type="error", message=killed)
                failure.text = _plain(_told(death))
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


def github(judged: Judged, deadly: bool) -> str:
    """Workflow commands of GitHub's actions: an annotation for the causes that are alike, which
    tells what follows from them, and before them one for a death. GitHub shows ten of a step."""
    said = []
    for report, death in judged:
        if death:
            command, title = (
                "error" if deadly else "warning",
                f"killed by {signal_name(death.signo)}",
            )
            text = f"{report.run}: {_told(death)}"
            said.append(_command(command, title, _died_in(death), text))
        said += [_annotation(report, kind) for kind in report.kinds]
    return "".join(said)


def _annotation(report: Report, kind: Kind) -> str:
    rule, first = kind.rule, kind.causes[0].root.finding
    said = [f"{report.run}: {_where(first)}: {_sentence(first)}"]
    if more := len(kind.causes) - 1:
        said.append(f"{more} more like it.")
    follows = {
        rule: sum(report.counts(v.finding) for v in found)
        for rule, found in kind.consequences.items()
    }
    if told := [f"{rule.id} {rule.slug} ({n})" for rule, n in follows.items() if n]:
        said.append(f"Leads to {', '.join(told)}.")
    place = report.places.get(id(first))
    return _command(_COMMANDS[rule.severity], f"{rule.id} {rule.slug}", place, " ".join(said))


def _command(command: str, title: str, place: Place | None, text: str) -> str:
    fields = {"title": title}
    if place and place.file and place.line:
        fields |= {"file": place.file, "line": str(place.line)}
    properties = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in fields.items())
    return f"::{command} {properties}::{_escaped(text)}\n"


def _escaped(text: str, more: str = "") -> str:
    return "".join(f"%{ord(c):02X}" if c in "%\r\n" + more else c for c in text)


def jsonl(judged: Judged, deadly: bool) -> str:
    """One object a line, with the columns of FINDINGS and the run, as the CSV has them."""
    return "".join(
        json.dumps(row, ensure_ascii=False) + "\n" for r, _ in judged for row in _rows(r)
    )


def _rows(report: Report) -> Iterator[dict[str, Any]]:
    units = FINDINGS.units
    for row in report.findings.iter_rows(named=True):
        yield {"run": report.run} | {name: show(units[name], v) for name, v in row.items()}


CI_FORMATS: Final[dict[str, Callable[[Judged, bool], str]]] = {
    "sarif": sarif,
    "junit": junit,
    "github": github,
    "jsonl": jsonl,
}
