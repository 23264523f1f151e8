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
    icount = (pl.col("seq") // STEPS).cast(pl.Int64)
    slices = (
        run.scan("sched")
        .sort("seq")
        .with_columns(began=icount, lasted=(icount.shift(-1) - icount).fill_null(0))
        .with_columns(before=pl.col("lasted").cum_sum().over("tid") - pl.col("lasted"))
        .select("tid", "began", "before", at="seq")
    )
    held = rows.join_asof(slices, left_on="seq", right_on="at", by="tid", check_sortedness=False)
    since = icount - pl.col("began").fill_null(0)
    return held.with_columns(clock=pl.col("before").fill_null(0) + since)
