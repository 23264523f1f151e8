"""Which task was on which shadow stack, from when until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.stays import stays
from shstk.replay.facts import Facts
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

COLUMNS: Final = (
    Column("tid", "u32?", "pid", "the task"),
    Column("mm", "u32?", "number", "address space"),
    Column("base", "u64", "address", "lowest address of the stack, as it was made"),
    Column("size", "u64", "size", "its bytes"),
    Column("owner", "u32?", "pid", "the task it was made for; null: map_shadow_stack, its copies"),
    Column("made_seq", "u64", "seq", "seq of the call that mapped it"),
    Column("from_seq", "u64", "seq", "its ssp is on the stack since"),
    Column(
        "to_seq",
        "u64?",
        "seq",
        "until it is elsewhere or the task's exit begins; null: the run's end",
    ),
)


def build(run: Run) -> pl.DataFrame:
    """Columns of COLUMNS, by from_seq."""
    ledger = Facts(run, run.row, "intent").ledger
    stacks = pl.DataFrame(
        [
            (s.number, s.mm, s.area.base, s.area.size, s.owner and s.owner.tid, s.step)
            for s in ledger.stacks
        ],
        schema={
            "mark": pl.UInt32,
            "mm": pl.UInt32,
            "base": pl.UInt64,
            "size": pl.UInt64,
            "owner": pl.UInt32,
            "made_seq": pl.UInt64,
        },
        orient="row",
    )
    found = stays(run, ledger).join(stacks, on="mark", how="inner", maintain_order="left")
    return found.select(pl.col(c.name) for c in COLUMNS)
