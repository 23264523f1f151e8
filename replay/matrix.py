"""Program x rule x revision: how many findings each has, from reports that were made already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from shstk.replay.check import Report
from shstk.replay.rules import RULES

if TYPE_CHECKING:
    import polars as pl


def matrix(reports: Mapping[str, Report], all_rules: bool = False) -> pl.DataFrame:
    """One row a rule, one column a kernel: the count of violations, `ok (n)`, or `-` not evaluated;
    (?) where it rests on a value of that revision that no source confirms.

    Columns: rule, slug, then the kernels in the order of `reports`, then changes: at which of them
    the finding appears and goes. Only rules that some kernel violates, unless all_rules.
    """
    return matrices({"": reports}, all_rules).drop("program")


def matrices(programs: Mapping[str, Mapping[str, Report]], all_rules: bool = False) -> pl.DataFrame:
    """The same of several programs, which a column `program` before the others tells apart."""
    import polars as pl

    rows: list[dict[str, str]] = []
    kernels: dict[str, None] = {}
    for program, reports in programs.items():
        kernels |= dict.fromkeys(reports)
        counted = {kernel: _cells(report) for kernel, report in reports.items()}
        for rule in RULES.values():
            cells = {kernel: counted[kernel].get(rule.id, "-") for kernel in reports}
            if all_rules or any(map(_violated, cells.values())):
                names = {"program": program, "rule": rule.id, "slug": rule.slug}
                rows.append(names | cells | {"changes": changes(cells)})
    columns = ["program", "rule", "slug", *kernels, "changes"]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def changes(cells: Mapping[str, str]) -> str:
    """Where a finding appears and goes, from its cell under each kernel: `appears v7, gone 7.3`."""
    told: list[str] = []
    before: bool | None = None
    for kernel, cell in cells.items():
        now = _violated(cell)
        if now and not before:
            told.append(f"{'in' if before is None else 'appears'} {kernel}")
        elif before and not now:
            told.append(f"gone {kernel}")
        before = now
    return ", ".join(told)


def _violated(cell: str) -> bool:
    return cell[0].isdigit()


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
