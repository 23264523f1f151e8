"""Consecutive rows of one task in one address space, with nothing else in between: one leg.

A long run has many rows and few legs: a leg ends where another task's rows begin, or where
something happens that the reader names by its time. What holds for a whole leg is asked once.
"""

from __future__ import annotations

import polars as pl


def with_legs(rows: pl.DataFrame, times: pl.Series) -> pl.DataFrame:
    """Adds leg u32, the number of each row's leg, ascending.

    rows: with seq, tid and mm, sorted by seq. times: seqs; a leg ends at each of them.
    """
    begins = rows.select(
        pl.col("tid").ne_missing(pl.col("tid").shift())
        | pl.col("mm").ne_missing(pl.col("mm").shift())
    ).to_series()
    if rows.height:
        within = times.filter((times >= rows["seq"][0]) & (times < rows["seq"][-1]))
        begins = begins.scatter(rows["seq"].search_sorted(within, side="right"), True)
    return rows.with_columns(begins.cum_sum().cast(pl.UInt32).set_sorted().alias("leg"))
