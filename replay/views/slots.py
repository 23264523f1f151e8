"""The words of the shadow stacks at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.words import words
from shstk.replay.facts import Facts
from shstk.replay.symbols import Symbols
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

COLUMNS: Final = (
    Column("mm", "u32?", "number", "address space"),
    Column("addr", "u64", "address", "address of the word"),
    Column("value", "u64?", "value", "what was written"),
    Column("place", "str?", "name", "symbol+offset, if the value is an address"),
    Column(
        "writer",
        "str",
        "kind",
        "sspush, ssamoswap, signal (a token), sigreturn (its 0), "
        "map_shadow_stack (a token) or kernel (anything else, such as ptrace)",
    ),
    Column("tid", "u32?", "pid", "the task that wrote it"),
    Column("pc", "u64?", "address", "address of the instruction; null where the kernel wrote"),
    Column("write_seq", "u64", "seq", "when it was written"),
    Column("from_seq", "u64", "seq", "valid here since: written, or copied by fork or mremap"),
    Column(
        "to_seq", "u64?", "seq", "until overwritten, unmapped or discarded; null: the run's end"
    ),
    Column("popped_seq", "u64?", "seq", "the first sspopchk that popped it; null if none did"),
)


def build(run: Run) -> pl.DataFrame:
    """Columns of COLUMNS, by from_seq."""
    rows = words(Facts(run, run.row, "intent"))
    code = Symbols(run).places(rows["value"], rows["mm"])
    return rows.with_columns(place=code).select(pl.col(c.name) for c in COLUMNS)
