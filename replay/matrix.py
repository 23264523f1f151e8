"""Revision x rule: how many findings each kernel has, from reports that were made already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from replay.check import Report
from replay.rules import RULES

if TYPE_CHECKING:
    import polars as pl


def matrix(reports: Mapping[str, Report], all_rules: bool = False) -> pl.DataFrame:
    """One row a rule, one column a kernel: the count of violations, `ok (n)`, or `-` not evaluated.

    Columns: rule, slug, then the kernels in the order of `reports`. Only rules that some kernel
    violates, unless all_rules.
    """
    import polars as pl

    cells = {kernel: _cells(report) for kernel, report in reports.items()}
    rows = [
        {"rule": rule.id, "slug": rule.slug}
        | {kernel: cells[kernel].get(rule.id, "-") for kernel in reports}
        for rule in RULES.values()
        if all_rules or any(cells[k].get(rule.id, "-").isdigit() for k in reports)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(["rule", "slug", *reports], pl.String))


def _cells(report: Report) -> dict[str, str]:
    cells: dict[str, str] = {}
    columns = ["rule", "outcome", "note"]
    for rule, outcome, note in report.findings.select(columns).iter_rows():
        if outcome == "violated":
            cells[rule] = str(int(cells.get(rule, "0")) + 1)
        elif outcome == "satisfied":
            cells[rule] = f"ok ({note.partition(' ')[0]})"
    return cells
