"""A campaign's findings by cause, over all cells: where each occurs, and what reproduces it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from shstk.corpus.store import Store
from shstk.schemas.revisions import REVISIONS

# What is the same whatever the seed and the quantum were.
SUBJECT = ("command", "kernel", "cpu")


@dataclass
class Cause:
    """Findings of one rule, whose words differ only in numbers, and that follow from no other.

    places: functions. example: the key of the cell with the smallest seed that has it.
    """

    id: str
    rule: str
    slug: str
    severity: str
    doubtful: bool
    words: str
    findings: int = 0
    cells: set[str] = field(default_factory=set)
    commands: set[str] = field(default_factory=set)
    kernels: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    example: str = ""

    @property
    def ordered_kernels(self) -> list[str]:
        return by_age(self.kernels)


def by_age(kernels: Iterable[str]) -> list[str]:
    """Kernels in the order of the revisions; with changed switches after their revision."""
    order = {name: number for number, name in enumerate(REVISIONS)}
    return sorted(kernels, key=lambda name: (order.get(name.split(",")[0], len(order)), name))


def causes(store: Store) -> list[Cause]:
    """The causes of a campaign, the most frequent first."""
    return grouped(store.findings.filter("root").collect())


def grouped(findings: pl.DataFrame) -> list[Cause]:
    """Findings by cause. findings: rows of Store.findings that follow from no other."""
    found: dict[str, Cause] = {}
    for row in findings.sort("seed", "quantum", "key", "seq").iter_rows(named=True):
        cause = found.setdefault(
            row["cause"],
            Cause(
                row["cause"],
                row["rule"],
                row["slug"],
                row["severity"],
                row["doubtful"],
                row["words"],
                example=row["key"],
            ),
        )
        cause.findings += 1
        cause.cells.add(row["key"])
        cause.commands.add(row["command"])
        cause.kernels.add(row["kernel"])
        cause.places.add(row["function"])
    return sorted(found.values(), key=lambda one: (-len(one.cells), one.rule, one.id))
