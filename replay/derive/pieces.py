"""The large tables in pieces, so that judging a long run takes no more memory than a short one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from shstk.replay.run import Run

ROWS: Final = 1 << 20  # whole row groups of a recording, and little enough for a cache


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
    height = run.rows(table)
    scan = scan.select(columns) if columns else scan
    offsets = range(0, max(height, 1), rows)
    end = 2**64 - 1
    before = -1  # the last seq of the piece before
    for offset in reversed(offsets) if backwards else offsets:
        frame = scan.slice(offset, rows).collect()
        if backwards:
            last = scan.select("seq").slice(offset - 1, 1).collect() if offset else None
            after, until = -1 if last is None else int(last.item()), end
            end = after
        else:
            after, until = before, frame["seq"][-1] if offset + rows < height else end
            before = until
        yield Piece(frame, after, until)
