"""Compares cfi rows with the manual: what one instruction may do, for millions of rows at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from shstk.replay.derive.instructions import address_due, done, kind, ssp_due
from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import Finding, Outcome, Satisfied, Unknown


@dataclass(frozen=True)
class Relation:
    """One sentence of the manual: a column, the condition on a row, and the expected value.

    holds: over the columns of cfi; null: something is not recorded, and may not hold.
    """

    column: str
    holds: pl.Expr
    due: Callable[[dict[str, Any]], str]


def of_every_instruction() -> tuple[Relation, ...]:
    """Relations for all kinds: ssp's alignment, the ssp afterwards, and the address accessed."""
    before = pl.col("ssp_before")
    return (
        Relation("ssp_before", before % 8 == 0, lambda row: f"{row['ssp_before'] // 8 * 8:#x}"),
        Relation("ssp_after", pl.col("ssp_after") == ssp_due(), lambda row: f"{row['moved']:#x}"),
        Relation(
            "addr",
            (pl.col("addr") == address_due()) | address_due().is_null(),
            lambda row: f"{row['place']:#x}",
        ),
    )


def faults_with(*causes: int) -> Relation:
    """The only exceptions that an instruction may raise."""
    allowed = " or ".join(map(str, causes)) or "none"
    holds = done() | pl.col("fault").is_in(causes)
    return Relation("fault", holds, lambda row: f"fault {allowed}")


def judge(facts: Facts, kinds: Sequence[str], *relations: Relation) -> Iterator[Outcome]:
    """Check every row of these kinds against the relations for all kinds and these.

    A row that breaks several is reported for the first.
    """
    laws = (*of_every_instruction(), *relations)
    rows = facts.run.scan("cfi").filter(kind().is_in(kinds))
    broken = [(~law.holds).fill_null(False) for law in laws]
    counts, wrong = pl.collect_all(
        [
            rows.select(
                right=pl.all_horizontal([law.holds.fill_null(False) for law in laws]).sum(),
                all=pl.len(),
            ),
            rows.filter(pl.any_horizontal(broken)).with_columns(
                kind().alias("kind"),
                moved=ssp_due(),
                place=address_due(),
                law=pl.concat_list(broken).list.arg_max(),
            ),
        ]
    )
    ((right, of_all),) = counts.rows()
    if right:
        yield Satisfied(right)
    if unknown := of_all - right - wrong.height:
        yield Unknown(f"what was compared is not recorded, in {unknown} of {of_all} rows of cfi")
    for row in wrong.iter_rows(named=True):
        law = laws[row["law"]]
        yield finding(row, law.column, law.due(row))


def finding(row: dict[str, Any], column: str, expected: str) -> Finding:
    """A violation at a row of cfi."""
    value = row[column]
    low_bits = value is not None and expected == f"{value // 8 * 8:#x}"
    shown = "none" if value is None else str(value) if column == "fault" else f"{value:#x}"
    return Finding(
        seq=row["seq"],
        tid=row["tid"],
        mm=row["mm"],
        addr=row["addr"],
        expected=f"{column} {expected}" if column != "fault" else expected,
        actual=f"{column} {shown}",
        note=f"{row['kind']} at pc {row['pc']:#x}",
        evidence=(row["seq"],),
        deviation="low bits" if low_bits else "",
    )
