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
    Column("tid", "u32?", "the task"),
    Column("mm", "u32?", "its address space at the call"),
    Column("depth", "u32", "1 for a task's outermost call"),
    Column("kind", "str", "call, or signal (a handler)"),
    Column("call_seq", "u64", "when the function was entered; by cfi: when it pushed"),
    Column("return_seq", "u64?", "when its caller went on, or the frame ended otherwise"),
    Column(
        "ended",
        "str",
        "return, unwound (a longjmp, or overwritten), sigreturn, exec, exit, killed (with its"
        " task), or open (at the run's end)",
    ),
    Column("caller_pc", "u64?", "address of the call; null by cfi and for handlers"),
    Column("caller", "str?", "the same in words: symbol+offset; by cfi, of where it returns to"),
    Column("return_to", "u64?", "where it returns to; null for handlers"),
    Column("callee", "u64?", "first instruction of the function; by cfi: address of its sspush"),
    Column("symbol", "str?", "the function"),
    Column("slot", "u64?", "the word of the shadow stack that has return_to, if it was pushed"),
    Column("source", "str", "flow (blocks that ran), or cfi where those were not recorded"),
)

CALLS: Final = (
    Column("caller", "str?", "the calling function"),
    Column("file", "str?", "source file of the call; null without DWARF"),
    Column("line", "u32?", "its line"),
    Column("symbol", "str?", "the function called"),
    Column("kind", "str", "call, or signal (a handler)"),
    Column("calls", "u32", "how often"),
    Column("returned", "u32", "how many of them returned"),
    Column("tasks", "u32", "how many tasks made them"),
    Column("first_seq", "u64", "the first"),
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
        # a return address may stand behind the last line of a function: ask for the call's
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
