"""Which of the tasks that had a tid, one after another, a row is about: tids are used again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from shstk.replay.run import Run


def with_life(run: Run, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Adds life u64: the seq at which the row's task was made; null where the run does not tell.
    rows: with seq and tid, sorted by seq."""
    return rows.join_asof(
        _births(run),
        left_on="seq",
        right_on="life",
        by="tid",
        check_sortedness=False,
        coalesce=False,
    )


def births(run: Run) -> pl.Series:
    """The seqs at which any life begins."""
    return _births(run).collect()["life"]


def _births(run: Run) -> pl.LazyFrame:
    kind = pl.col("kind").cast(pl.String)
    created = run.scan("task_events").filter(kind == "created").select("tid", life="seq")
    cloned = run.scan("clones").select(tid="child_tid", life="seq")
    return pl.concat([created, cloned]).drop_nulls().sort("life")
