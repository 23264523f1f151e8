"""Which task was on which shadow stack from when to when: the runs of its ssp over the stacks.

Unlike derive/uses.py, which tells how a task first came to a stack, this follows it back and forth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from shstk.replay.derive.gather import gathered
from shstk.replay.derive.lives import with_life
from shstk.replay.derive.ssp_path import stretches

if TYPE_CHECKING:
    from shstk.replay.derive.stacks import Ledger
    from shstk.replay.run import Run


def stays(run: Run, ledger: Ledger) -> pl.DataFrame:
    """Columns tid, life u64 (seq at which the task was made), mark u32 (the stack's number in the
    ledger; null: ssp was on no stack), from_seq u64, and to_seq u64: when it left or its exit began
    (null: neither), by from_seq. Grows with the number of stretches (derive/ssp_path.py)."""
    told = _told(run)
    here = ledger.marked(told.with_columns(pl.col("seq") + 1)).with_columns(_standing("here"))
    below = here.with_columns(pl.col("addr") - 1).drop("mark", "gone")
    marked = ledger.marked(below).with_columns(_standing("below"))
    life = ["tid", "life"]
    return (
        marked.with_columns(pl.col("seq") - 1, mark=pl.coalesce("below", "here"))
        .sort("seq", maintain_order=True)
        .with_columns(came=pl.col("mark").ne_missing(pl.col("mark").shift().over(life)))
        .with_columns(first=pl.int_range(pl.len()).over(life) == 0)
        .filter(pl.col("came") | pl.col("first"))
        .select(*life, "mark", from_seq="seq", to_seq=pl.col("seq").shift(-1).over(life))
        .join(_exits(run), on=life, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(to_seq=pl.coalesce("to_seq", "exit_seq"))
        .drop("exit_seq")
    )


def _exits(run: Run) -> pl.DataFrame:
    begun = run.scan("task_events").filter(pl.col("kind").cast(pl.String) == "exit_begin")
    lives = with_life(run, begun.select("seq", "tid").sort("seq"))
    return lives.group_by("tid", "life").agg(pl.col("seq").min().alias("exit_seq")).collect()


def _standing(name: str) -> pl.Expr:
    return pl.when(pl.col("gone").is_null()).then("mark").alias(name)


def _told(run: Run) -> pl.DataFrame:
    """Every row that tells an ssp, when its stack stands: a call's at its return. ssp 0 is none."""
    [(_, path)] = gathered(run, stretches(run))
    returns = run.scan("syscalls").select("seq", "seq_end", "tid")
    told = path.lazy().filter(pl.col("ssp_after").is_not_null())
    return (
        with_life(run, told.sort("seq", maintain_order=True))
        .join(returns, on=["seq", "tid"], how="left", nulls_equal=True, maintain_order="left")
        .with_columns(seq=pl.coalesce("seq_end", "seq"), addr=pl.col("ssp_after"))
        .select("tid", "life", "mm", "seq", "addr")
        .sort("seq", maintain_order=True)
        .collect()
    )
