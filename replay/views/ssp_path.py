"""Every task's ssp over time, and the reason for each change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.ssp_path import ssp_path
from shstk.replay.derive.ssp_reasons import with_reasons
from shstk.replay.facts import Facts
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

COLUMNS: Final = (
    Column("seq", "u64", "seq", "position of the event"),
    Column("tid", "u32?", "pid", "the task"),
    Column("mm", "u32?", "number", "its address space"),
    Column(
        "cause",
        "str",
        "name",
        "a cfi kind, a call's name, delivery, sigreturn, first_user, exec_done",
    ),
    Column("ssp_before", "u64?", "address", "csr ssp before"),
    Column("ssp_after", "u64?", "address", "csr ssp after"),
    Column(
        "reason",
        "str?",
        "kind",
        "why it moved: push, pop, signal, sigreturn, handoff (first_user of a child), prctl, exec,"
        " longjmp (csr write, up the same stack), rewind (down it), pivot (to another stack),"
        " astray (to no stack), ptrace, call (any other); null where it did not move",
    ),
)


def build(run: Run) -> pl.DataFrame:
    """Columns of COLUMNS, by task, then seq."""
    return with_reasons(ssp_path(run).collect(), Facts(run, run.row, "intent").ledger)
