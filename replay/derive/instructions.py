"""What the manual says that one instruction of cfi does to ssp, as expressions over its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from shstk.replay.run import Run

NO_PAD: Final = 0xFFFF_FFFF  # cfi.value of lpad: what stood there was none


def kind() -> pl.Expr:
    """cfi.kind, which stays dictionary-encoded: millions of rows are compared by their codes."""
    return pl.col("kind")


def done() -> pl.Expr:
    """Whether the instruction retired."""
    return pl.col("fault").is_null()


def ssp_due() -> pl.Expr:
    """What ssp must be afterwards: what traps, and what only reads, leaves it."""
    before = pl.col("ssp_before")
    return (
        pl.when(done() & (kind() == "sspush"))
        .then(before - 8)
        .when(done() & (kind() == "sspopchk"))
        .then(before + 8)
        .when(done() & (kind() == "ssp_write"))
        .then(pl.col("value") // 8 * 8)  # bits 2:0 are read-only zero
        .otherwise(before)
    )


def address_due() -> pl.Expr:
    """Where a push stores and a pop loads; null for the others."""
    before = pl.col("ssp_before")
    return pl.when(kind() == "sspush").then(before - 8).when(kind() == "sspopchk").then(before)


def wrong_motions(run: Run) -> dict[int, int | None]:
    """Instructions that moved ssp, or took its place, otherwise than they may: seq → tid."""
    moved, place = pl.col("ssp_after") != ssp_due(), pl.col("addr") != address_due()
    return dict(run.scan("cfi").filter(moved | place).select("seq", "tid").collect().iter_rows())
