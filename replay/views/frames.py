"""Calls and returns, with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive import frames as derived
from shstk.replay.symbols import Symbols
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

FRAMES: Final = (
    Column("tid", "u32?", "pid", "the task"),
    Column("mm", "u32?", "number", "its address space at the call"),
    Column("depth", "u32", "count", "1 for a task's outermost call"),
    Column("kind", "str", "kind", "call, or signal (a handler)"),
    Column("call_seq", "u64", "seq", "when the function was entered; from cfi: when it pushed"),
    Column("return_seq", "u64?", "seq", "when its caller resumed, or the frame ended otherwise"),
    Column(
        "ended",
        "str",
        "kind",
        "return, unwound (a longjmp, or overwritten), sigreturn, exec, exit, killed (with its"
        " task), or open (at the run's end)",
    ),
    Column("caller_pc", "u64?", "address", "address of the call; null from cfi and for handlers"),
    Column("caller", "str?", "name", "its symbol+offset; from cfi, that of return_to"),
    Column("return_to", "u64?", "address", "return address; null for handlers"),
    Column("callee", "u64?", "address", "first instruction; from cfi: its sspush"),
    Column("symbol", "str?", "name", "the function"),
    Column("slot", "u64?", "address", "where return_to was pushed on the shadow stack"),
    Column("source", "str", "kind", "flow (blocks that ran), or cfi where those were not recorded"),
)

CALLS: Final = (
    Column("caller", "str?", "name", "the calling function"),
    Column("file", "str?", "path", "source file of the call; null without DWARF"),
    Column("line", "u32?", "number", "its line"),
    Column("symbol", "str?", "name", "the function called"),
    Column("kind", "str", "kind", "call, or signal (a handler)"),
    Column("calls", "u32", "count", "how often"),
    Column("returned", "u32", "count", "how many of them returned"),
    Column("tasks", "u32", "count", "how many tasks made them"),
    Column("first_seq", "u64", "seq", "the first"),
)


def frames(run: Run) -> pl.DataFrame:
    """Columns of FRAMES, by call_seq."""
    symbols = Symbols(run)
    rows = derived.frames(run)
    caller = symbols.names(rows["caller_pc"].fill_null(rows["return_to"]), rows["mm"])
    symbol = symbols.functions(rows["callee"], rows["mm"])
    return rows.with_columns(caller=caller, symbol=symbol).select(pl.col(c.name) for c in FRAMES)


def calls(run: Run) -> pl.DataFrame:
    """Columns of CALLS, the most frequent first."""
    symbols = Symbols(run)
    rows = derived.frames(run).with_columns(
        # a return address may be past the last line of a function: look up the call's instead
        site=pl.col("caller_pc").fill_null(pl.col("return_to") - 2)
    )
    sites = rows.select("mm", "site").unique(maintain_order=True)
    places = [None if s is None else symbols.at(mm, s) for mm, s in sites.iter_rows()]
    told = sites.with_columns(
        pl.Series("caller", [p and (p.symbol or p.name) for p in places], pl.String),
        pl.Series("file", [p and p.file for p in places], pl.String),
        pl.Series("line", [p and p.line for p in places], pl.UInt32),
    )
    key = ["caller", "file", "line", "symbol", "kind"]
    return (
        rows.with_columns(symbol=symbols.functions(rows["callee"], rows["mm"]))
        .join(told, on=["mm", "site"], how="left", nulls_equal=True)
        .group_by(key)
        .agg(
            pl.len().alias("calls"),
            (pl.col("ended") == "return").sum().alias("returned"),
            pl.col("tid").n_unique().alias("tasks"),
            pl.col("call_seq").min().alias("first_seq"),
        )
        .sort(["calls", "first_seq", *key], descending=[True, *[False] * 6])
        .select(*key, "calls", "returned", "tasks", "first_seq")
    )
