"""One pass over cfi, shared by all that read the whole of it: decoding it costs more than most."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import polars as pl
import pyarrow as pa

from shstk.replay import _core
from shstk.replay.derive import pieces
from shstk.replay.derive.made import frame, numbers
from shstk.schemas.rows import schema
from shstk.schemas.tables import TABLES, TRACED
from shstk.schemas.uapi import PAGE

if TYPE_CHECKING:
    from shstk.replay.run import Run

T = TypeVar("T")


class Taker(Protocol):
    """Takes every batch of cfi, in order."""

    def take(self, batch: pa.RecordBatch, /) -> object: ...


# It is sent every piece of cfi, in order, and then None; it returns what it gathered. Its first
# yield may tell a Taker, which takes the batches of each piece before it is sent.
Gather: TypeAlias = Generator[Any, "Piece | None", T]

_INDEX: Final = {"index": pl.UInt32}
_BRIEF: Final = {
    "count": pl.UInt32,
    "last": pl.UInt64,
    "lowest": pl.UInt64,
    "highest": pl.UInt64,
    "follows": pl.Boolean,
    "plain": pl.Boolean,
}


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of cfi.

    brief: what is left of them if rows that are alike are told once. A row is plain if the
    instruction retired and did what the manual says (replay/core/plain.hpp). Plain rows are alike
    if they are of one task, address space, kind and page, and nothing is told between them by
    another table. The last row of a batch is told, too. Brief has the columns of cfi, and

    - count u32: how many rows it stands for; 0: none, another row does;
    - last, lowest, highest u64: the seq of the last of them, and the range of their addr;
    - follows bool: ssp_before is the ssp_after of the row before it in cfi, of the same task and
      address space, without anything in between. The row before one that does not follow is told;
    - plain bool.
    """

    brief: pl.DataFrame
    again: pl.LazyFrame

    @cached_property
    def rows(self) -> pl.DataFrame:
        """All of them, read again."""
        return self.again.collect()


def gathered(run: Run, *gathers: Gather[Any], page: int = PAGE) -> list[Any]:
    """What each of them returns. page: rows are alike within so many bytes, a power of two."""
    takers: list[Taker] = [taker for taker in map(next, gathers) if taker is not None]
    for piece in told(run, page, takers):
        for gather in gathers:
            gather.send(piece)
    return [_end(gather) for gather in gathers]


def told(run: Run, page: int, takers: Sequence[Taker]) -> Iterator[Piece]:
    """The pieces, at least one. Each batch is let go when all have taken it: decoding into memory
    that was just used costs half as much."""
    brief = _core.Brief(numbers(times(run)), page.bit_length() - 1)
    rows: list[pl.DataFrame] = []
    left, done = pieces.ROWS, 0
    for batch in run.batches("cfi"):
        while batch.num_rows:
            part = batch[:left]
            batch = batch[part.num_rows :]
            left -= part.num_rows
            for taker in takers:
                taker.take(part)
            rows.append(rows_of([part])[frame([brief.take(part)], _INDEX)["index"]])
            if not left:
                yield _piece(run, rows, brief, done)
                rows, left, done = [], pieces.ROWS, done + pieces.ROWS
    if rows or not done:
        yield _piece(run, rows, brief, done)


def _piece(run: Run, rows: list[pl.DataFrame], brief: _core.Brief, first: int) -> Piece:
    whole = pl.concat(rows) if rows else rows_of([])
    all_ = run.scan("cfi").slice(first, pieces.ROWS)
    return Piece(whole.hstack(frame(brief.end(), _BRIEF)), all_)


def times(run: Run) -> pl.Series:
    """Before and after each event of another table, and the end of each."""
    found = [pl.Series(dtype=pl.UInt64)]
    for name, table in TABLES.items():
        if name not in TRACED:
            found += [
                run.scan(name).select(column).collect().to_series().drop_nulls()
                for column in ("seq", "seq_end")
                if column in table.names
            ]
    at = pl.concat(found).unique()
    return pl.concat([at, at.filter(at < 2**64 - 1) + 1]).unique().sort()


def rows_of(batches: list[pa.RecordBatch]) -> pl.DataFrame:
    found = pl.from_arrow(pa.Table.from_batches(batches, None if batches else schema("cfi")))
    assert isinstance(found, pl.DataFrame)
    return found


def _end(gather: Gather[T]) -> T:
    try:
        gather.send(None)
    except StopIteration as end:
        found: T = end.value
        return found
    raise AssertionError("it did not end with the table")
