"""The number of instructions that a task has run, which shows whether a block was cut short.

A block can be cut short after any instruction: by a fault, stack growth, a signal, a context
switch, a debugger, or its own store to itself. The task then resumes at the next instruction, which
starts another block. So the last instruction of a block ran only if the task ran as many
instructions as the block has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from shstk.schemas.seq import STEPS

if TYPE_CHECKING:
    from shstk.replay.run import Run


def with_clock(run: Run, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Adds clock i64: the number of instructions its task has run. rows: sorted by seq."""
    return clocked(rows, slices(run))


def slices(run: Run) -> pl.DataFrame:
    """When each task ran, for `clocked`, which may be asked for one part of a table after another.

    Columns: tid u32, at u64 (seq), began i64 (icount), before i64 (what the task had run by then).
    """
    return (
        run.scan("sched")
        .sort("seq")
        .with_columns(began=_icount(), lasted=(_icount().shift(-1) - _icount()).fill_null(0))
        .with_columns(before=pl.col("lasted").cum_sum().over("tid") - pl.col("lasted"))
        .select("tid", "began", "before", at="seq")
        .collect()
    )


def clocked(rows: pl.LazyFrame, known: pl.DataFrame) -> pl.LazyFrame:
    """As with_clock."""
    held = rows.join_asof(
        known.lazy(), left_on="seq", right_on="at", by="tid", check_sortedness=False
    )
    since = _icount() - pl.col("began").fill_null(0)
    return held.with_columns(clock=pl.col("before").fill_null(0) + since)


def _icount() -> pl.Expr:
    return (pl.col("seq") // STEPS).cast(pl.Int64)
