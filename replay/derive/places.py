"""Which stack an address is in at a given time, for millions of rows.

The bounds of an address space's areas split it into segments. A search finds an address's segment,
and an as-of join finds the last operation on that segment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from shstk.replay.derive.rows import Area


@dataclass(frozen=True, slots=True)
class Mark:
    """An operation on an area of an address space; the caller gives `number` its meaning."""

    mm: int | None
    area: Area
    seq: int
    number: int


def last_marks(rows: pl.DataFrame, marks: Iterable[Mark]) -> pl.DataFrame:
    """For each row the last mark before its seq that covers its address.

    rows: columns mm u32, addr u64, seq u64 and any others. Adds mark u32 (its number) and mark_seq
    u64, both null if there is none. The order of the rows is kept only within an mm.
    """
    return _joined(rows, marks, "backward")


def next_marks(rows: pl.DataFrame, marks: Iterable[Mark]) -> pl.DataFrame:
    """The same with the first mark after each row's seq."""
    return _joined(rows, marks, "forward")


def _joined(
    rows: pl.DataFrame, marks: Iterable[Mark], towards: Literal["backward", "forward"]
) -> pl.DataFrame:
    by_mm: dict[int | None, list[Mark]] = {}
    for mark in marks:
        by_mm.setdefault(mark.mm, []).append(mark)
    parts = [
        _in_one_mm(part, by_mm.get(part["mm"][0], []), towards)
        for part in rows.partition_by("mm", maintain_order=True)
    ]
    return pl.concat(parts) if parts else _in_one_mm(rows, [], towards)


def _in_one_mm(
    rows: pl.DataFrame, marks: Sequence[Mark], towards: Literal["backward", "forward"]
) -> pl.DataFrame:
    bounds = sorted({b for m in marks for b in (m.area.base, m.area.top)})
    place = {bound: i for i, bound in enumerate(bounds)}
    segments = pl.Series("segment", bounds, pl.UInt64).search_sorted(rows["addr"], side="right")
    used = sorted(segments.unique())  # a mark may cover thousands, of which no row has any
    covers = [
        (segment, m.seq, m.number)
        for m in sorted(marks, key=lambda m: m.seq)
        for segment in used[
            bisect_right(used, place[m.area.base]) : bisect_right(used, place[m.area.top])
        ]  # a segment's number is one past that of its lower bound
    ]
    schema = {"segment": pl.UInt32, "mark_seq": pl.UInt64, "mark": pl.UInt32}
    known = pl.DataFrame(covers, schema=schema, orient="row")
    return (
        rows.with_columns(segments.cast(pl.UInt32).alias("segment"))
        .sort("seq")
        .join_asof(
            known.with_columns(pl.col("mark_seq").alias("at")),
            left_on="seq",
            right_on="at",
            by="segment",
            strategy=towards,
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .drop("segment", "at")
    )
