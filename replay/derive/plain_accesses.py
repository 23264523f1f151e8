"""Ordinary loads from and stores to live shadow stacks, from the rows of insn."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import polars as pl

from shstk.replay.derive.memory_access import accesses
from shstk.replay.derive.stacks import Ledger

if TYPE_CHECKING:
    from shstk.replay.run import Run


def plain_accesses(run: Run, ledger: Ledger, kinds: Collection[str]) -> pl.DataFrame:
    """The retired accesses of these kinds, in seq order; an SC only if rd
    tells that it stored.

    Columns: seq u64, tid u32, mm u32, pc u64, addr u64, access str, mark u32 (index in stacks).
    """
    low, high = ledger.span
    rows = (
        run.scan("insn")
        .filter(pl.col("mem_addr").is_between(low, high, closed="left"))
        .with_columns(access=accesses(pl.col("word")))
        .filter(
            pl.col("access").is_in(list(kinds))
            & ((pl.col("access") != "sc") | (pl.col("rd_value") == 0))
        )
        .select("seq", "tid", "mm", "pc", "access", addr="mem_addr")
        .collect()
    )
    on = pl.col("mark").is_not_null() & pl.col("gone").is_null()
    return ledger.marked(rows).filter(on).sort("seq").drop("gone")
