"""The row of a task's that comes first after, or last before, each of many points in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

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
    columns = {"seq", "tid", value, *which.meta.root_names()}
    return _walk(pieces(run, *columns), points, which, value, "forward")


def lasts(
    run: Run, points: Iterable[Point], which: pl.Expr, value: str, table: str = "cfi"
) -> Found:
    """The same for the last row before, of cfi or another large table."""
    return _walk(pieces(run, table=table, backwards=True), points, which, value, "backward")


def lasts_of(rows: pl.LazyFrame, points: Iterable[Point], value: str) -> Found:
    """The same for the rows of a frame with seq and tid, sorted by seq."""
    return dict(_told(_frame(points), rows.select("seq", "tid", told=value), "backward"))


def _walk(
    pieces: Iterable[Piece],
    points: Iterable[Point],
    which: pl.Expr,
    value: str,
    towards: Literal["backward", "forward"],
) -> Found:
    asked = _frame(points)
    found: Found = {}
    for piece in pieces if asked.height else ():
        rows = piece.rows.lazy().filter(which).select("seq", "tid", told=value)
        found |= _told(asked, rows, towards)
        asked = asked.filter(~pl.Series([point in found for point in asked.iter_rows()]))
        if not asked.height:
            break
    return found


def _frame(points: Iterable[Point]) -> pl.DataFrame:
    return pl.DataFrame(sorted(set(points)), schema=_SCHEMA, orient="row").sort("at")


def _told(
    asked: pl.DataFrame, rows: pl.LazyFrame, towards: Literal["backward", "forward"]
) -> Iterator[tuple[Point, tuple[int, int | None]]]:
    held = asked.lazy().join_asof(
        rows,
        left_on="at",
        right_on="seq",
        by="tid",
        strategy=towards,
        allow_exact_matches=False,
        check_sortedness=False,
    )
    answers = held.select("tid", "at", "seq", "told").collect().drop_nulls("seq")
    for tid, at, seq, told in answers.iter_rows():
        yield (tid, at), (seq, told)
