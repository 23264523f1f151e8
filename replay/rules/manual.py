"""Compares cfi rows with the manual: what one instruction may do, for millions of rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from shstk.replay.derive.gather import Gather
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


class Laws:
    """The relations that every row of these kinds must satisfy: those for all kinds, and these.

    To be named in the rule's GATHERS, and called by its check.
    """

    def __init__(self, kinds: Sequence[str], *relations: Relation) -> None:
        self._laws = (*of_every_instruction(), *relations)
        self._mine = pl.any_horizontal(kind() == name for name in kinds)

    def __call__(self, facts: Facts) -> Gather[list[Outcome]]:
        """A row that breaks several is reported for the first."""
        broken = [(~law.holds).fill_null(False) for law in self._laws]
        holds = pl.all_horizontal([law.holds.fill_null(False) for law in self._laws])
        of_all, right, found = 0, 0, list[Outcome]()
        while piece := (yield):
            weight = pl.col("count").cast(pl.UInt64)
            mine, kept = (weight.filter(self._mine & which).sum() for which in (True, holds))
            count, good = piece.brief.select(mine.alias("all"), kept.alias("good")).row(0)
            of_all += count
            right += good
            if good == count:
                continue
            wrong = piece.brief.filter(self._mine & pl.any_horizontal(broken)).with_columns(
                moved=ssp_due(),
                place=address_due(),
                law=pl.concat_list(broken).list.arg_max(),
            )
            for row in wrong.iter_rows(named=True):
                law = self._laws[row["law"]]
                found.append(finding(row, law.column, law.due(row)))
        if unknown := of_all - right - len(found):
            why = f"what was compared is not recorded, in {unknown} of {of_all} rows of cfi"
            found.append(Unknown(why))
        return [*([Satisfied(right)] if right else ()), *found]


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
