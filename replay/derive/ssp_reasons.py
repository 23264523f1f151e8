"""Why ssp changed, for each event with an ssp."""

from __future__ import annotations

from typing import Final

import polars as pl

from shstk.replay.derive.ssp_path import STARTS
from shstk.replay.derive.stacks import Ledger

_REASONS: Final = {
    "sspush": "push",
    "sspopchk": "pop",
    "delivery": "signal",
    "sigreturn": "sigreturn",
    "first_user": "handoff",
    "exec_done": "exec",
    "execve": "exec",
    "execveat": "exec",
    "prctl": "prctl",
    "ptrace": "ptrace",
}


def with_reasons(path: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Adds `reason` to the frame of derive/ssp_path.py."""
    last = pl.col("ssp_after").shift().over("tid")
    # The row before a task's first may be that of another task with the same tid.
    last = pl.when(pl.col("cause") != "first_user").then(last)
    known = pl.col("ssp_before").fill_null(last)
    recorded = pl.col("ssp_after").is_not_null() | (pl.col("cause") == "ptrace")
    begun = pl.col("cause").is_in(STARTS) & known.is_null() & (pl.col("ssp_after") == 0)
    handed = (pl.col("cause") == "first_user") & (pl.col("ssp_after") != 0)
    moved = (known.ne_missing(pl.col("ssp_after")) & recorded & ~begun) | handed
    reason = pl.col("cause").replace_strict(_REASONS, default="call", return_dtype=pl.String)
    changed = pl.col("ssp_before") != pl.col("ssp_after")
    writes = path.filter((pl.col("cause") == "ssp_write") & changed)
    kinds = [
        motion(ledger, mm, before, after, seq)
        for seq, mm, before, after in writes.select(
            "seq", "mm", "ssp_before", "ssp_after"
        ).iter_rows()
    ]
    written = writes.select("seq", "tid").with_columns(pl.Series("written", kinds, pl.String))
    return (
        path.join(written, on=["seq", "tid"], how="left", nulls_equal=True, maintain_order="left")
        .with_columns(reason=pl.when(moved).then(pl.col("written").fill_null(reason)))
        .drop("written")
    )


def motion(ledger: Ledger, mm: int | None, before: int, after: int, seq: int) -> str:
    """The meaning of a write of csr ssp: longjmp, rewind, pivot or astray."""
    here, there = ledger.on(mm, before, seq), ledger.on(mm, after, seq)
    if there is None:
        return "astray"
    if here is not there:
        return "pivot"
    return "longjmp" if after > before else "rewind"
