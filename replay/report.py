"""Reports in every format. Positions are icount.n; addresses and other u64 are hex."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

from shstk.replay.causes import listed
from shstk.replay.check import Report
from shstk.replay.ci_formats import CI_FORMATS
from shstk.replay.decode import signal_name
from shstk.replay.explain.model import Death
from shstk.replay.explain.text import as_json
from shstk.replay.look import PLAIN, Look
from shstk.replay.rules.outcome import Finding, Result
from shstk.replay.verdict import text, total
from shstk.schemas.tables import FINDINGS
from shstk.schemas.units import show

FORMATS: Final = ("text", "json", "csv", *CI_FORMATS)


def render(
    reports: Sequence[Report],
    format: str,
    verbose: bool = False,
    deaths: Sequence[Death | None] = (),
    full: bool = False,
    look: Look = PLAIN,
    deadly: bool = False,
) -> str:
    """The reports in one of FORMATS. verbose: the text lists what is satisfied or not evaluated.

    full: the text lists every finding, with all its evidence, and not only the first of a kind.
    deaths: for each report, how a signal ended its run, if one did (replay.explain.death). deadly:
    that is an error for CI systems, and else a warning.
    """
    both = list(zip_longest(reports, deaths))
    if format in CI_FORMATS:
        ended = [(report, death if death and death.ended else None) for report, death in both]
        return CI_FORMATS[format](ended, deadly)
    if format == "csv":
        return _csv(reports)
    if format == "json":
        shown = [_json(report) | _ended(death) for report, death in both]
        return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"
    told = [text(report, look, verbose, full, death) for report, death in both]
    return "\n".join([*told, total(reports, deaths)] if len(told) > 1 else told)


def _ended(death: Death | None) -> dict[str, Any]:
    if death is None or not death.ended:
        return {"killed_by": None, "fault": None}
    explained = death.explained
    return {
        "killed_by": signal_name(death.signo),
        "fault": as_json(explained) if explained else None,
    }


def findings_json(result: Result) -> list[dict[str, Any]]:
    """A rule's findings as JSON values."""
    return [_finding_json(result, finding) for finding in result.findings]


def _finding_json(result: Result, finding: Finding) -> dict[str, Any]:
    rule = result.rule
    about = {"rule": rule.id, "slug": rule.slug, "severity": rule.severity}
    shown = {name: value for name, value in vars(finding).items() if name != "deviation"}
    return about | {"doubtful": result.doubtful} | _shown(shown) | {"source": rule.source}


def _numbers(report: Report) -> dict[int, int]:
    """Where each finding is among all."""
    found = [finding for result in report.results for finding in result.findings]
    return {id(finding): number for number, finding in enumerate(found)}


def _findings(report: Report) -> list[dict[str, Any]]:
    """The findings; follows_from is the index of the one that causes it. known: it is in the
    baseline."""
    numbers = _numbers(report)
    roots = {
        numbers[id(violation.finding)]: numbers[id(root.finding)]
        for violation, root in listed(report.causes)
        if root
    }
    found = [finding for result in report.results for finding in result.findings]
    rows = [row for result in report.results for row in findings_json(result)]
    return [
        row | {"follows_from": roots.get(number), "known": not report.counts(finding)}
        for number, (row, finding) in enumerate(zip(rows, found, strict=True))
    ]


def _causes(report: Report) -> list[dict[str, Any]]:
    """Each kind of cause: the indices of its findings, and of those that follow from them."""
    numbers = _numbers(report)
    return [
        {
            "rule": kind.rule.id,
            "slug": kind.rule.slug,
            "findings": [numbers[id(cause.root.finding)] for cause in kind.causes],
            "consequences": [
                numbers[id(violation.finding)]
                for cause in kind.causes
                for violation in cause.consequences
            ],
        }
        for kind in report.kinds
    ]


def _json(report: Report) -> dict[str, Any]:
    gone = report.compared.gone if report.compared else ()
    return {
        "run": report.run,
        "kernel": report.row.name,
        "unconfirmed": list(report.row.unconfirmed),
        "expect": report.expect,
        "findings": _findings(report),
        "causes": _causes(report),
        "gone": [vars(one) | {"count": count} for one, count in gone],
        "deviations": [
            _finding_json(result, finding) | {"why": why}
            for result in report.results
            for finding, why in result.deviations
        ],
        "satisfied": [
            {
                "rule": r.rule.id,
                "slug": r.rule.slug,
                "doubtful": r.doubtful,
                "checked": r.checked,
                "unseen": r.unseen,
            }
            for r in report.of("satisfied")
        ],
        "not_evaluated": [
            {"rule": r.rule.id, "slug": r.rule.slug, "why": r.not_evaluated}
            for r in report.of("not evaluated")
        ],
    }


def _csv(reports: Sequence[Report]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *FINDINGS.names])
    for report in reports:
        for row in map(_shown, report.findings.iter_rows(named=True)):
            line = row | {"evidence": " ".join(row["evidence"])}
            writer.writerow([report.run, *line.values()])
    return out.getvalue()


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row's values as they are printed, by the units of FINDINGS."""
    units = FINDINGS.units
    return {name: show(units[name], value) for name, value in row.items()}
