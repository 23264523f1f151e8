"""Revision x rule: how many findings each kernel has, from reports that were made already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from replay.check import Report
from replay.rules import RULES

if TYPE_CHECKING:
    import polars as pl


def matrix(reports: Mapping[str, Report], all_rules: bool = False) -> pl.DataFrame:
    """One row a rule, one column a kernel: the count of violations, `ok (n)`, or `-` not evaluated;
    (?) where it rests on a value of that revision that no source confirms.

    Columns: rule, slug, then the kernels in the order of `reports`. Only rules that some kernel
    violates, unless all_rules.
    """
    import polars as pl

    cells = {kernel: _cells(report) for kernel, report in reports.items()}
    rows = [
        {"rule": rule.id, "slug": rule.slug}
        | {kernel: cells[kernel].get(rule.id, "-") for kernel in reports}
        for rule in RULES.values()
        if all_rules or any(cells[k].get(rule.id, "-")[0].isdigit() for k in reports)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(["rule", "slug", *reports], pl.String))


def _cells(report: Report) -> dict[str, str]:
    counts: Counter[str] = Counter()
    cells: dict[str, str] = {}
    columns = ["rule", "outcome", "note", "kernel"]
    for rule, outcome, note, kernel in report.findings.select(columns).iter_rows():
        if outcome == "violated":
            counts[rule] += 1
            cells[rule] = str(counts[rule])
        elif outcome == "satisfied":
            cells[rule] = f"ok ({note.partition(' ')[0]})"
        if rule in cells and kernel.endswith("(?)"):
            cells[rule] = cells[rule].removesuffix(" (?)") + " (?)"
    return cells
