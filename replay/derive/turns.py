"""Stretches of consecutive instruction rows of one task in one address space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from shstk.replay.derive.pieces import pieces
from shstk.schemas.tables import TRACES

if TYPE_CHECKING:
    from shstk.replay.run import Run


def turns(run: Run) -> pl.DataFrame:
    """One row for each stretch in each table of instructions.

    Columns: table str, seq u64 (of its first row), last u64 (of its last), tid u32, mm u32.
    """
    found = []
    for table in TRACES:
        parts = [_turns(piece.rows) for piece in pieces(run, "seq", "tid", "mm", table=table)]
        found.append(_turns(pl.concat(parts)).with_columns(table=pl.lit(table)))
    return pl.concat(found).select("table", "seq", "last", "tid", "mm")


def _turns(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows, or turns of neighbouring pieces, as turns."""
    tid, mm = pl.col("tid"), pl.col("mm")
    other = tid.ne_missing(tid.shift()) | mm.ne_missing(mm.shift())
    begins = other | pl.int_range(pl.len()).eq(0)
    ends = other.shift(-1, fill_value=True)
    last = "last" if "last" in rows.columns else "seq"
    edges = rows.with_columns(begins=begins, ends=ends).filter(pl.col("begins") | pl.col("ends"))
    return (
        edges.with_columns(pl.col("begins").cum_sum().alias("turn"))
        .group_by("turn", maintain_order=True)
        .agg(
            pl.col("seq").first(),
            pl.col(last).last().alias("last"),
            pl.col("tid", "mm").first(),
        )
        .drop("turn")
    )
