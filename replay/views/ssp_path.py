"""Where every task's ssp was, and the reason for each of its motions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from replay.derive.ssp_path import ssp_path
from replay.derive.stacks import Ledger
from replay.facts import Facts
from schemas.tables import Column

if TYPE_CHECKING:
    import polars as pl

    from replay.run import Run

COLUMNS: Final = (
    Column("seq", "u64", "position of the event"),
    Column("tid", "u32?", "the task"),
    Column("mm", "u32?", "its address space"),
    Column("cause", "str", "a cfi kind, a call's name, delivery, sigreturn, first_user, exec_done"),
    Column("ssp_before", "u64?", "csr ssp before"),
    Column("ssp_after", "u64?", "csr ssp after"),
    Column(
        "reason",
        "str?",
        "why it moved: push, pop, signal, sigreturn, handoff (first_user of a child), prctl, exec,"
        " longjmp (csr write, up the same stack), rewind (down it), pivot (to another stack),"
        " astray (to no stack), ptrace, call (any other); null where it did not move",
    ),
)
_REASONS: Final = {
    "sspush": "push",
    "sspopchk": "pop",
    "delivery": "signal",
    "sigreturn": "sigreturn",
    "first_user": "handoff",
    "exec_done": "exec",
    "prctl": "prctl",
    "ptrace": "ptrace",
}


def build(run: Run) -> pl.DataFrame:
    """Columns of COLUMNS, by task, then seq."""
    return with_reasons(ssp_path(run).collect(), Facts(run, run.row, "intent").ledger)


def with_reasons(path: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """The frame of derive/ssp_path.py with `reason`."""
    import polars as pl

    moved = pl.col("ssp_before").ne_missing(pl.col("ssp_after"))
    told = pl.col("ssp_after").is_not_null() | (pl.col("cause") == "ptrace")
    begun = (pl.col("cause") == "first_user") & (pl.col("ssp_after") == 0)
    reason = pl.col("cause").replace_strict(_REASONS, default="call", return_dtype=pl.String)
    writes = path.filter((pl.col("cause") == "ssp_write") & moved)
    kinds = [
        motion(ledger, mm, before, after, seq)
        for seq, mm, before, after in writes.select(
            "seq", "mm", "ssp_before", "ssp_after"
        ).iter_rows()
    ]
    written = writes.select("seq", "tid").with_columns(pl.Series("written", kinds, pl.String))
    return (
        path.join(written, on=["seq", "tid"], how="left", nulls_equal=True, maintain_order="left")
        .with_columns(
            reason=pl.when(moved & told & ~begun).then(pl.col("written").fill_null(reason))
        )
        .drop("written")
    )


def motion(ledger: Ledger, mm: int | None, before: int, after: int, seq: int) -> str:
    """What a write of csr ssp means: longjmp, rewind, pivot or astray."""
    here, there = ledger.at(mm, before, seq), ledger.at(mm, after, seq)
    if there is None:
        return "astray"
    if here is not there:
        return "pivot"
    return "longjmp" if after > before else "rewind"
