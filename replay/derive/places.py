"""Which stack an address is in at a given time, for millions of rows.

The bounds of an address space's areas split it into segments. A search finds an address's segment,
and an as-of join finds the last operation on that segment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from shstk.replay.derive.rows import Area

_NO_SPACE: Final = 2**32 - 1


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
    u64, both null if there is none. The rows come back by seq.
    """
    return _joined(rows, marks, "backward")


def next_marks(rows: pl.DataFrame, marks: Iterable[Mark]) -> pl.DataFrame:
    """The same with the first mark after each row's seq."""
    return _joined(rows, marks, "forward")


def _joined(
    rows: pl.DataFrame, marks: Iterable[Mark], towards: Literal["backward", "forward"]
) -> pl.DataFrame:
    """All address spaces at once: there may be thousands with a few rows each."""
    marks = sorted(marks, key=lambda m: m.seq)
    bounds = sorted({b for m in marks for b in (m.area.base, m.area.top)})
    place = {bound: i for i, bound in enumerate(bounds)}
    segments = pl.Series("segment", bounds, pl.UInt64).search_sorted(rows["addr"], side="right")
    keyed = rows.with_columns(
        segment=segments.cast(pl.UInt32), space=pl.col("mm").fill_null(_NO_SPACE)
    ).sort("seq")
    # a mark may cover thousands of segments, of which no row has any
    used: dict[int, list[int]] = {}
    for space, segment in keyed.select("space", "segment").unique().sort("segment").iter_rows():
        used.setdefault(space, []).append(segment)
    covers = []
    for m in marks:
        space = _NO_SPACE if m.mm is None else m.mm
        mine = used.get(space, ())
        low, high = (bisect_right(mine, place[b]) for b in (m.area.base, m.area.top))
        # a segment's number is one past that of its lower bound
        covers += [(space, segment, m.seq, m.number) for segment in mine[low:high]]
    schema = {"space": pl.UInt32, "segment": pl.UInt32, "mark_seq": pl.UInt64, "mark": pl.UInt32}
    known = pl.DataFrame(covers, schema=schema, orient="row")
    return keyed.join_asof(
        known.with_columns(pl.col("mark_seq").alias("at")),
        left_on="seq",
        right_on="at",
        by=["space", "segment"],
        strategy=towards,
        allow_exact_matches=False,
        check_sortedness=False,
    ).drop("segment", "space", "at")
