"""Stretches of consecutive instruction rows of one task in one address space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from shstk.schemas.tables import TRACES

if TYPE_CHECKING:
    from shstk.replay.run import Run


def turns(run: Run) -> pl.DataFrame:
    """One row for each stretch in each table of instructions.

    Columns: table str, seq u64 (of its first row), last u64 (of its last), tid u32, mm u32.
    """
    found = []
    for table in TRACES:
        rows = run.scan(table).select("seq", "tid", "mm")
        here = pl.struct("tid", "mm")
        begins = here.ne_missing(here.shift()) | pl.int_range(pl.len()).eq(0)
        ends = here.ne_missing(here.shift(-1)) | pl.int_range(pl.len()).eq(pl.len() - 1)
        edges = rows.filter(begins | ends).with_columns(begins=begins).collect()
        turn = edges.with_columns(pl.col("begins").cum_sum().alias("turn"))
        found.append(
            turn.group_by("turn", maintain_order=True)
            .agg(
                pl.lit(table).alias("table"),
                pl.col("seq").first(),
                pl.col("seq").last().alias("last"),
                pl.col("tid", "mm").first(),
            )
            .drop("turn")
        )
    return pl.concat(found)
