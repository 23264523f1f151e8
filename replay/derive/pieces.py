"""The large tables in pieces, so that judging a long run takes no more memory than a short one."""

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
    """Consecutive rows of a table, and the span of time that they cover: after < seq <= until."""

    rows: pl.DataFrame
    after: int
    until: int

    def span(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Another table's rows of the same time."""
        return frame.filter((pl.col("seq") > self.after) & (pl.col("seq") <= self.until))


def pieces(
    run: Run,
    *columns: str,
    rows: int | None = None,
    table: str = "cfi",
    backwards: bool = False,
) -> Iterator[Piece]:
    """All of a table, in order, or from its end. The spans cover the whole run; there is at least
    one piece.

    columns: those to read, seq among them; all if none is named. rows: of a piece,
    ROWS by default.
    """
    scan, rows = run.scan(table), rows or ROWS
    height = _length(run, table)
    scan = scan.select(columns) if columns else scan
    offsets = range(0, max(height, 1), rows)
    for offset in reversed(offsets) if backwards else offsets:
        after = _seq(scan, offset - 1) if offset else -1
        until = _seq(scan, offset + rows - 1) if offset + rows < height else 2**64 - 1
        yield Piece(scan.slice(offset, rows).collect(), after, until)


def _seq(scan: pl.LazyFrame, row: int) -> int:
    return int(scan.select("seq").slice(row, 1).collect().item())


def _length(run: Run, table: str) -> int:
    return int(run.scan(table).select(pl.len()).collect().item())
