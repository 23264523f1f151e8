"""Consecutive rows of one task in one address space, with nothing else in between: one leg.

A long run has many rows and few legs: a leg ends where another task's rows begin, or where
something happens that the reader names by its time. What holds for a whole leg is asked once.
"""

from __future__ import annotations

from typing import Literal

import polars as pl


def with_legs(
    rows: pl.DataFrame, times: pl.Series, side: Literal["left", "right"] = "right"
) -> pl.DataFrame:
    """Adds leg u32, the number of each row's leg, ascending from 1.

    rows: with seq, tid and mm, sorted by seq. times: seqs; a leg ends at each of them. side: on
    which side of a row at that seq.
    """
    begins = rows.select(
        pl.col("tid").ne_missing(pl.col("tid").shift())
        | pl.col("mm").ne_missing(pl.col("mm").shift())
        | (pl.int_range(pl.len()) == 0)
    ).to_series()
    if rows.height:
        within = times.filter((times >= rows["seq"][0]) & (times <= rows["seq"][-1]))
        at = rows["seq"].search_sorted(within, side=side)
        begins = begins.scatter(at.filter(at < rows.height), True)
    return rows.with_columns(begins.cum_sum().cast(pl.UInt32).set_sorted().alias("leg"))
