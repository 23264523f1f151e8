"""One pass over cfi, shared by all that read the whole of it: decoding it costs more than most."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

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
# It is sent every piece of cfi, in order, and then None; it returns what it gathered.
Gather: TypeAlias = Generator[None, "Piece | None", T]

_BRIEF: Final = {
    "index": pl.UInt32,
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

    batches: they. brief: what is left of them if rows that are alike are told once. A row is plain
    if the instruction retired and did what the manual says (replay/core/plain.hpp). Plain rows are
    alike if they are of one task, address space, kind and page, and nothing is told between them
    by another table. Brief has the columns of cfi, and

    - count u32: how many rows it stands for; 0: none, another row does;
    - last, lowest, highest u64: the seq of the last of them, and the range of their addr;
    - follows bool: ssp_before is the ssp_after of the row before it in cfi, of the same task and
      address space, without anything in between. The row before one that does not follow is told;
    - plain bool.
    """

    batches: list[pa.RecordBatch]
    brief: pl.DataFrame

    @cached_property
    def rows(self) -> pl.DataFrame:
        """All of them."""
        return rows_of(self.batches)


def gathered(run: Run, *gathers: Gather[Any], page: int = PAGE) -> list[Any]:
    """What each of them returns. page: rows are alike within so many bytes, a power of two."""
    for gather in gathers:
        next(gather)
    for piece in told(run, page):
        for gather in gathers:
            gather.send(piece)
    return [_end(gather) for gather in gathers]


def told(run: Run, page: int) -> Iterator[Piece]:
    """The pieces, at least one."""
    brief = _core.Brief(numbers(times(run)), page.bit_length() - 1)
    read = pieces.batches(run, "cfi")
    for batches in chain([next(read, [])], read):  # at least one
        rows = []
        for batch in batches:
            brief.take(batch)
        left = frame(brief.end(), _BRIEF)
        begin = 0
        for batch in batches:
            within = left["index"].is_between(begin, begin + batch.num_rows - 1)
            if within.any():
                rows.append(rows_of([batch])[left["index"].filter(within) - begin])
            begin += batch.num_rows
        whole = pl.concat(rows) if rows else rows_of([])
        yield Piece(batches, whole.hstack(left.drop("index")))


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
