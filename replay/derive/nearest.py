"""The row of a task's that comes first after, or last before, each of many points in time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import polars as pl

from shstk.replay.derive.pieces import Piece, pieces

if TYPE_CHECKING:
    from shstk.replay.run import Run

Point = tuple[int, int]  # tid, seq
Found = dict[Point, tuple[int, int | None]]  # the row's seq, and its value in a column

_SCHEMA = {"tid": pl.UInt32, "at": pl.UInt64}


def firsts(run: Run, points: Iterable[Point], which: pl.Expr, value: str) -> Found:
    """Of each point, the first row of cfi of its tid after its seq that `which` selects. Points
    that no row follows are left out."""
    return _walk(pieces(run), points, which, value, "forward")


def lasts(
    run: Run, points: Iterable[Point], which: pl.Expr, value: str, table: str = "cfi"
) -> Found:
    """The same for the last row before, of cfi or another large table."""
    return _walk(pieces(run, table=table, backwards=True), points, which, value, "backward")


def _walk(
    pieces: Iterable[Piece], points: Iterable[Point], which: pl.Expr, value: str, towards: str
) -> Found:
    asked = pl.DataFrame(sorted(set(points)), schema=_SCHEMA, orient="row").sort("at")
    found: Found = {}
    for piece in pieces if asked.height else ():
        rows = piece.rows.lazy().filter(which).select("seq", "tid", told=value)
        held = asked.lazy().join_asof(
            rows,
            left_on="at",
            right_on="seq",
            by="tid",
            strategy="forward" if towards == "forward" else "backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        answers = held.select("tid", "at", "seq", "told").collect()
        for tid, at, seq, told in answers.drop_nulls("seq").iter_rows():
            found[tid, at] = seq, told
        asked = answers.filter(pl.col("seq").is_null()).select("tid", "at")
        if not asked.height:
            break
    return found
