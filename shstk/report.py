"""A report as people read it: the verdict first, then each finding with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import click

from schemas import seq as positions
from schemas.revisions import Revision

if TYPE_CHECKING:
    from replay.check import Report

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


def write_text(report: Report, out: TextIO, *, colour: bool, verbose: bool = False) -> None:
    """The report in plain text; verbose: also what was satisfied, and what was not evaluated."""
    out.write(summary(report) + "\n")
    for finding in report.violated.iter_rows(named=True):
        out.write("\n" + finding_text(finding, colour) + "\n")
    if verbose:
        for outcome in ("satisfied", "not evaluated"):
            rows = [r for r in report.findings.iter_rows(named=True) if r["outcome"] == outcome]
            if rows:
                out.write(f"\n{outcome}\n")
            for row in rows:
                out.write(f"  {row['rule']:<4} {row['slug']:<34} {row['note']}\n")


def summary(report: Report) -> str:
    """One line: 'a.run: v3 by intent: 9 violations (A5 4, A7 4, X1 1), 14 rules satisfied, …'."""
    counts: dict[str, int] = {}
    for rule in report.violated["rule"]:
        counts[rule] = counts.get(rule, 0) + 1
    outcomes = report.findings["outcome"].cast(str).to_list()
    total = sum(counts.values())
    each = f" ({', '.join(f'{rule} {n}' for rule, n in counts.items())})" if counts else ""
    return (
        f"{report.run}: kernel {kernel_name(report.row)} by {report.expect}:"
        f" {total} violation{'' if total == 1 else 's'}{each},"
        f" {outcomes.count('satisfied')} rules satisfied,"
        f" {outcomes.count('not evaluated')} not evaluated"
    )


def kernel_name(row: Revision) -> str:
    """The revision's name; '(?)' lists the switches that no source text confirms."""
    # prctl_numbers decides nothing unless --abi own is given, which refuses unconfirmed ones.
    doubtful = [name for name in row.unconfirmed if name != "prctl_numbers"]
    return row.name + (f" ((?) {', '.join(doubtful)})" if doubtful else "")


def finding_text(finding: dict[str, Any], colour: bool = False) -> str:
    """One violation: where, whose, expected and actual, why, evidence, source."""
    name = f"{finding['rule']} {finding['slug']}"
    if colour:
        name = click.style(name, fg=_COLOURS[finding["severity"]], bold=True)
    place = [f"at {positions.show(finding['seq'])}"]
    if finding["tid"] is not None:
        place.append(f"task {finding['tid']}")
    if finding["mm"] is not None:
        place.append(f"mm {finding['mm']}")
    if finding["addr"] is not None:
        place.append(f"address {finding['addr']:#x}")
    evidence = " ".join(positions.show(s) for s in finding["evidence"])
    fields = [
        ("expected", finding["expected"]),
        ("actual", finding["actual"]),
        ("because", finding["note"]),
        ("evidence", evidence),
        ("source", finding["source"]),
    ]
    lines = [f"{name}  {finding['severity']}, {', '.join(place)}"]
    lines += [f"  {label:<9} {value}" for label, value in fields if value]
    return "\n".join(lines)
