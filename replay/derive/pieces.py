"""The cfi table in pieces, so that judging a long run takes no more memory than a short one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from shstk.replay.run import Run

ROWS: Final = 2_000_000


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of cfi, and the span of time that they cover: after < seq <= until."""

    cfi: pl.DataFrame
    after: int
    until: int

    def span(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Another table's rows of the same time."""
        return frame.filter((pl.col("seq") > self.after) & (pl.col("seq") <= self.until))


def pieces(run: Run, *columns: str, rows: int | None = None) -> Iterator[Piece]:
    """All of cfi, in order. The spans cover the whole run; there is at least one piece.

    columns: those to read, seq among them; all if none is named. rows: of a piece,
    ROWS by default.
    """
    scan, height, after, rows = run.scan("cfi"), _length(run), -1, rows or ROWS
    scan = scan.select(columns) if columns else scan
    for offset in range(0, max(height, 1), rows):
        cfi = scan.slice(offset, rows).collect()
        last = offset + rows >= height
        until = 2**64 - 1 if last else int(cfi["seq"][-1])
        yield Piece(cfi, after, until)
        after = until


def shares(run: Run) -> int:
    """The number of shares into which to split cfi, other than by time, for the same memory."""
    return _length(run) // ROWS + 1


def _length(run: Run) -> int:
    return int(run.scan("cfi").select(pl.len()).collect().item())
