"""The manual's effect of a cfi instruction on ssp, as expressions over the columns of cfi."""

from __future__ import annotations

from typing import Final

import polars as pl

from shstk.replay.derive.gather import Gather

NO_PAD: Final = 0xFFFF_FFFF  # cfi.value of an lpad row: there was no lpad


def kind() -> pl.Expr:
    """cfi.kind, still dictionary-encoded: comparing codes is fast for millions of rows."""
    return pl.col("kind")


def done() -> pl.Expr:
    """Whether the instruction retired."""
    return pl.col("fault").is_null()


def ssp_due() -> pl.Expr:
    """What ssp must be afterwards: an instruction that traps or only reads leaves it unchanged."""
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
    """Where a push stores and a pop loads; null for other kinds."""
    before = pl.col("ssp_before")
    return pl.when(kind() == "sspush").then(before - 8).when(kind() == "sspopchk").then(before)


def wrong_motions() -> Gather[dict[int, int | None]]:
    """Instructions with a wrong ssp_after or a wrong address: seq → tid."""
    moved, place = pl.col("ssp_after") != ssp_due(), pl.col("addr") != address_due()
    found: dict[int, int | None] = {}
    while piece := (yield):
        found |= dict(piece.brief.filter(moved | place).select("seq", "tid").iter_rows())
    return found
