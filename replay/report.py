"""Findings as plain text, JSON or CSV. Positions are icount.n; addresses and other u64 are hex."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, Final

from shstk.replay.check import Report
from shstk.replay.ci_formats import CI_FORMATS
from shstk.replay.explain.model import Explanation
from shstk.replay.explain.text import as_json, short
from shstk.replay.rules.outcome import Finding, Result
from shstk.schemas import seq as positions
from shstk.schemas.tables import FINDINGS
from shstk.schemas.units import show

FORMATS: Final = ("text", "json", "csv", *CI_FORMATS)
_FINDINGS, _EVIDENCE = 10, 12  # of a rule, and of a finding, that are listed if not all are


def render(
    reports: Sequence[Report],
    format: str,
    verbose: bool = False,
    ends: Sequence[Explanation | None] = (),
    full: bool = False,
) -> str:
    """The reports in one of FORMATS. verbose: the text includes why rules were not evaluated.

    full: the text lists every finding, with all its evidence, and not only the first ones.
    ends: for each report, the fault that ended its run, if one did (replay.explain.end).
    """
    if format in CI_FORMATS:
        return CI_FORMATS[format](reports)
    if format == "csv":
        return _csv(reports)
    both = list(zip_longest(reports, ends))
    if format == "json":
        shown = [_json(r) | {"fault": as_json(e) if e else None} for r, e in both]
        return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"
    return "\n".join(_text(r, verbose, full) + (f"\n{short(e)}" if e else "") for r, e in both)


def _text(report: Report, verbose: bool, full: bool) -> str:
    violated, satisfied = report.of("violated"), report.of("satisfied")
    not_evaluated = report.of("not evaluated")
    lines = [f"{report.run}: judged by kernel {report.row.name}, expecting {report.expect}"]
    for result in violated:
        rule, count = result.rule, len(result.findings)
        times = f"{count} time" + ("s" if count > 1 else "")
        lines += ["", f"{rule.id} {rule.slug} ({rule.severity}): violated {times}"]
        shown = result.findings if full else result.findings[:_FINDINGS]
        for finding in shown:
            lines += finding_lines(finding, result.doubtful, full)
        lines += _more(count - len(shown))
        lines.append(f"    source    {rule.source}")
    for result in report.results:
        lines += _deviations(result, full)
    lines.append("")
    if satisfied:
        lines.append(f"satisfied: {', '.join(map(_count, satisfied))}")
    in_part = [r for r in satisfied if r.unseen]
    if in_part and verbose:
        lines.append("in part:")
        lines += [f"  {r.rule.id:4} {' and '.join(r.unseen)}" for r in in_part]
    elif in_part:
        lines.append("* the recorder could not see a part of what the rule reads (-v tells which)")
    if not_evaluated and verbose:
        lines.append("not evaluated:")
        lines += [f"  {r.rule.id:4} {r.not_evaluated}" for r in not_evaluated]
    elif not_evaluated:
        lines.append(f"not evaluated: {', '.join(r.rule.id for r in not_evaluated)}")
    doubts = [f"{name}={report.row.settings[name]}" for name in report.row.unconfirmed]
    if doubts:
        lines.append(f"no source confirms for {report.row.name}: {', '.join(doubts)}")
    lines.append(
        f"{sum(len(r.findings) for r in violated)} findings in {len(violated)} rules,"
        f" {len(satisfied)} satisfied, {len(not_evaluated)} not evaluated"
    )
    return "\n".join(lines) + "\n"


def _deviations(result: Result, full: bool) -> Iterator[str]:
    """The findings that the emulator explains."""
    if not result.deviations:
        return
    yield ""
    yield (
        f"{result.rule.id} {result.rule.slug}: not the kernel's, {len(result.deviations)} that the"
        " emulator explains"
    )
    shown = result.deviations if full else result.deviations[:_FINDINGS]
    for finding, why in shown:
        yield from finding_lines(finding, result.doubtful, full)
        yield f"    {why}"
    yield from _more(len(result.deviations) - len(shown))


def _more(count: int) -> Iterator[str]:
    if count:
        yield f"  … {count} more; --all lists them"


def _count(result: Result) -> str:
    """How many instances satisfied a rule; a star, if a part of it could not be judged."""
    return f"{result.rule.id} ({result.checked})" + ("*" if result.unseen else "")


def finding_lines(finding: Finding, doubtful: bool, full: bool = False) -> Iterator[str]:
    """One violation: place, task, expected, actual, note, evidence. full: all of the evidence."""
    task = f" task {finding.tid}" if finding.tid is not None else ""
    mm = f" mm {finding.mm}" if finding.mm is not None else ""
    addr = f" at {finding.addr:#x}" if finding.addr is not None else ""
    doubt = " (?)" if doubtful else ""
    yield f"  {positions.show(finding.seq)}{task}{mm}{addr}{doubt}"
    yield f"    expected  {finding.expected}"
    yield f"    actual    {finding.actual}"
    yield f"    {finding.note}"
    if finding.evidence:
        shown = finding.evidence if full else finding.evidence[:_EVIDENCE]
        more = len(finding.evidence) - len(shown)
        told = " ".join(map(positions.show, shown)) + (f" … {more} more" if more else "")
        yield f"    evidence  {told}"


def findings_json(result: Result) -> list[dict[str, Any]]:
    """A rule's findings as JSON values."""
    return [_finding_json(result, finding) for finding in result.findings]


def _finding_json(result: Result, finding: Finding) -> dict[str, Any]:
    rule = result.rule
    about = {"rule": rule.id, "slug": rule.slug, "severity": rule.severity}
    shown = {name: value for name, value in vars(finding).items() if name != "deviation"}
    return about | {"doubtful": result.doubtful} | _shown(shown) | {"source": rule.source}


def _json(report: Report) -> dict[str, Any]:
    return {
        "run": report.run,
        "kernel": report.row.name,
        "unconfirmed": list(report.row.unconfirmed),
        "expect": report.expect,
        "findings": [f for result in report.results for f in findings_json(result)],
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
