"""How deep each task was on its shadow stack over time, in a bounded number of points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.pieces import pieces
from shstk.replay.derive.ssp_path import other_events
from shstk.replay.derive.stays import stays
from shstk.schemas.seq import STEPS

if TYPE_CHECKING:
    from shstk.replay.derive.stacks import Ledger
    from shstk.replay.run import Run

_EVENT: Final = ("seq", "tid", pl.col("ssp_after").alias("ssp"))


def depths(run: Run, ledger: Ledger, points: int) -> pl.DataFrame:
    """Columns seq u64, tid u32, ssp u64, mark u32 (the stack's number in the ledger) and depth u64
    (bytes from the stack's top down to ssp), by tid, then seq; only while ssp is on a stack.

    points: about how many to keep of each task: of every part of the run the lowest and the
    highest ssp. All of them, if they are fewer.
    """
    width = max((run.manifest.icount + 1) * STEPS // max(points // 2, 1), 1)
    found = [_extremes(pl.concat(other_events(run)).select(*_EVENT), width)]
    for piece in pieces(run, "seq", "tid", "ssp_after"):
        found.append(_extremes(piece.rows.lazy().select(*_EVENT), width))
    rows = _extremes(pl.concat(found).lazy(), width)
    here = stays(run, ledger).select("tid", "mark", "from_seq", "to_seq").sort("from_seq")
    tops = pl.DataFrame(
        [(s.number, s.area.top) for s in ledger.stacks],
        schema={"mark": pl.UInt32, "top": pl.UInt64},
        orient="row",
    )
    return (
        rows.join_asof(here, left_on="seq", right_on="from_seq", by="tid", check_sortedness=False)
        .filter((pl.col("seq") <= pl.col("to_seq")) | pl.col("to_seq").is_null())
        .join(tops, on="mark", maintain_order="left")
        .filter(pl.col("ssp") <= pl.col("top"))
        .select("seq", "tid", "ssp", "mark", depth=pl.col("top") - pl.col("ssp"))
        .sort("tid", "seq", maintain_order=True)
    )


def _extremes(rows: pl.LazyFrame, width: int) -> pl.DataFrame:
    """Of every task and part of the run the rows with the lowest and with the highest ssp."""
    parts = rows.drop_nulls("ssp").group_by("tid", part=pl.col("seq") // width)
    ends = [parts.agg(pl.col("seq", "ssp").sort_by("ssp", "seq").get(i)) for i in (0, -1)]
    found = pl.concat(ends).select("seq", "tid", "ssp").unique().sort("seq", "tid")
    return found.collect()
