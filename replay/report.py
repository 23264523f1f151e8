"""Findings as plain text, JSON or CSV. Positions are icount.n; addresses and other u64 are hex."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import Any, Final

from shstk.replay.check import Report
from shstk.replay.explain.model import Explanation
from shstk.replay.explain.text import as_json, short
from shstk.schemas import seq as positions
from shstk.schemas.tables import FINDINGS

FORMATS: Final = ("text", "json", "csv")


def render(
    reports: Sequence[Report],
    format: str,
    verbose: bool = False,
    ends: Sequence[Explanation | None] = (),
) -> str:
    """The reports in one of FORMATS. verbose: text also says why rules were not evaluated.

    ends: for each report, the fault that ended its run, if one did (replay.explain.end).
    """
    if format == "csv":
        return _csv(reports)
    both = list(zip_longest(reports, ends))
    if format == "json":
        shown = [_json(r) | {"fault": as_json(e) if e else None} for r, e in both]
        return json.dumps(shown, indent=1, ensure_ascii=False) + "\n"
    return "\n".join(_text(r, verbose) + (f"\n{short(e)}" if e else "") for r, e in both)


def _text(report: Report, verbose: bool) -> str:
    rows = list(report.findings.iter_rows(named=True))
    by = {
        outcome: [r for r in rows if r["outcome"] == outcome]
        for outcome in ("violated", "satisfied", "not evaluated")
    }
    lines = [f"{report.run}: judged by kernel {report.row.name}, expecting {report.expect}"]
    for rule, found in groupby(by["violated"], key=lambda r: r["rule"]):
        group = list(found)
        times = f"{len(group)} time" + ("s" if len(group) > 1 else "")
        first = group[0]
        lines += ["", f"{rule} {first['slug']} ({first['severity']}): violated {times}"]
        lines += [line for row in group for line in finding_lines(row)]
        lines.append(f"    source    {first['source']}")
    lines.append("")
    if by["satisfied"]:
        counts = [f"{r['rule']} ({r['note'].partition(' ')[0]})" for r in by["satisfied"]]
        lines.append(f"satisfied: {', '.join(counts)}")
    if by["not evaluated"] and verbose:
        lines.append("not evaluated:")
        lines += [f"  {r['rule']:4} {r['note']}" for r in by["not evaluated"]]
    elif by["not evaluated"]:
        lines.append(f"not evaluated: {', '.join(r['rule'] for r in by['not evaluated'])}")
    doubts = [f"{name}={report.row.settings[name]}" for name in report.row.unconfirmed]
    if doubts:
        lines.append(f"no source confirms for {report.row.name}: {', '.join(doubts)}")
    broken = len({r["rule"] for r in by["violated"]})
    lines.append(
        f"{len(by['violated'])} findings in {broken} rules, {len(by['satisfied'])} satisfied,"
        f" {len(by['not evaluated'])} not evaluated"
    )
    return "\n".join(lines) + "\n"


def finding_lines(row: dict[str, Any]) -> Iterator[str]:
    """One violation (a row of FINDINGS): where, whose, expected, actual, why, evidence."""
    task = f" task {row['tid']}" if row["tid"] is not None else ""
    mm = f" mm {row['mm']}" if row["mm"] is not None else ""
    addr = f" at {row['addr']:#x}" if row["addr"] is not None else ""
    doubt = " (?)" if row["kernel"].endswith("(?)") else ""
    yield f"  {positions.show(row['seq'])}{task}{mm}{addr}{doubt}"
    yield f"    expected  {row['expected']}"
    yield f"    actual    {row['actual']}"
    yield f"    {row['note']}"
    if row["evidence"]:
        yield f"    evidence  {' '.join(positions.show(seq) for seq in row['evidence'])}"


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A findings row in JSON's types."""
    return row | {
        "seq": None if row["seq"] is None else positions.show(row["seq"]),
        "addr": None if row["addr"] is None else hex(row["addr"]),
        "evidence": [positions.show(seq) for seq in row["evidence"]],
    }


def _json(report: Report) -> dict[str, Any]:
    return {
        "run": report.run,
        "kernel": report.row.name,
        "unconfirmed": list(report.row.unconfirmed),
        "expect": report.expect,
        "findings": [shown(row) for row in report.findings.iter_rows(named=True)],
    }


def _csv(reports: Sequence[Report]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", *FINDINGS.names])
    for report in reports:
        for row in report.findings.iter_rows(named=True):
            line = shown(row) | {"evidence": " ".join(map(positions.show, row["evidence"]))}
            writer.writerow([report.run, *line.values()])
    return out.getvalue()
