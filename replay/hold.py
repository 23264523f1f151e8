"""Compare a second execution of a run with the record while it executes.

Both sides of a table are compared in windows, column by column. The first window that differs ends
the execution. The first difference is then found over all tables, so it does not depend on where
the windows were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from shstk.schemas.arrow import SetLookupOptions, apply, fill_null, index_of, keep, sorted_by
from shstk.schemas.rows import schema, words_of
from shstk.schemas.seq import STEPS
from shstk.schemas.tables import TABLES, Table

if TYPE_CHECKING:
    from shstk.replay.run import Run

END: Final = 2**64 - 1
# Tables whose rows are written when the event ends: the columns known only then.
LATE: Final = {
    "syscalls": ("seq_end", "ret", "outcome", "ssp_exit", "state_hash"),
    "clones": ("seq_end", "child_tid", "ret"),
    "mms": ("seq_end",),
}
# Endings that stop a program which would have continued: the last instruction's rows may be cut.
OPEN_ENDINGS: Final = frozenset({"timeout", "interrupted", "full", "stopped", "recovered"})


@dataclass(frozen=True)
class Difference:
    """The first rows of a table that differ, as dicts of its columns.

    time: the seq at which they differ. recorded, now: None if that side has no further row.
    columns: those that differ; `seq` alone if the rows are different events.
    """

    table: str
    time: int
    recorded: dict[str, Any] | None
    now: dict[str, Any] | None
    columns: tuple[str, ...]


class Hold:
    """Receives the batches of the second run (it is a sink for the tracer's recorder).

    until: compare up to this seq; without it, the whole record. `disagrees` is set, on the thread
    that delivers the batches, as soon as the runs cannot be the same any more. many: how many rows
    of an executor table may wait to be compared.
    """

    def __init__(self, run: Run, until: int | None = None, many: int = 2**20) -> None:
        self.disagrees = False
        self._manifest = run.manifest
        reach = run.manifest.recovered_up_to or run.manifest.icount * STEPS
        self._until = until if until is not None and until // STEPS < reach // STEPS else None
        self._last_icount = (reach if self._until is None else self._until) // STEPS
        self._bound = 0  # everything below this seq has been compared
        traced = run.manifest.traced
        self._tables = {
            name: _Sides(run, table, many)
            for name, table in TABLES.items()
            if table.trace is None or table.trace in traced
        }

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that are compared."""
        return tuple(self._tables)

    @property
    def last_icount(self) -> int:
        """The icount at which the second run can stop: all there is to compare has happened."""
        return self._last_icount

    @property
    def to_the_end(self) -> bool:
        """Whether the program's own end is compared too."""
        return self._until is None and not self.open_end

    @property
    def open_end(self) -> bool:
        """Whether the record stops at a point where the program would have continued."""
        return self._until is None and self._manifest.ending in OPEN_ENDINGS

    def append(self, table: str, batch: pa.RecordBatch) -> None:
        if table not in self._tables:
            return
        sides = self._tables[table]
        sides.add(batch)
        if sides.many and not self.disagrees and (seq := sides.shed()) is not None:
            self.disagrees = True
            self._bound = (seq // STEPS + 1) * STEPS

    def mark(self, seq: int, rows: dict[str, int], open_rows: object) -> None:
        """All rows of the instructions before that of `seq` have arrived."""
        bound = min(seq, self._end) // STEPS * STEPS
        if self.disagrees or bound <= self._bound:
            return
        tables = self._tables.values()
        self.disagrees = not all(sides.agree(bound) for sides in tables)
        self._bound = bound
        if not self.disagrees:  # otherwise the first difference is still to be found
            for sides in tables:
                sides.drop(bound)

    def close_streams(self) -> None:
        pass

    def add_file(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    @property
    def _end(self) -> int:
        return END if self._until is None else self._until + 1

    def first_difference(self, stopped_at: int | None = None) -> Difference | None:
        """Call it after the last batch. stopped_at: the icount at which the second run was stopped;
        None if it ran to its own end or to `last_icount`."""
        if self.disagrees:
            bound = self._bound
        elif stopped_at is not None:
            bound = min(stopped_at * STEPS, self._end)
        elif self.open_end:
            bound = self.last_icount * STEPS
        else:
            bound = self._end
        open_end = self.open_end and not self.disagrees and stopped_at is None
        found = [
            difference
            for sides in self._tables.values()
            for difference in sides.differences(bound, open_end)
        ]
        self._bound = END if open_end else bound
        return min(found, key=lambda difference: difference.time, default=None)

    def agreed(self, time: int | None) -> dict[str, int]:
        """Rows of each table that are the same on both sides, up to the first difference."""
        bound = self._bound if time is None else time
        counts = {name: sides.agreed(bound) for name, sides in self._tables.items()}
        return {name: count for name, count in counts.items() if count}


class _Sides:
    """One table: the rows of the record and of this execution that are not yet known to agree."""

    def __init__(self, run: Run, table: Table, many: int) -> None:
        name = table.name
        self._name = name
        self._many = many
        self._traced = table.trace is not None
        self._exits = LATE.get(name, ())
        self._key = "seq_end" if self._exits else "seq"
        self._batches = run.batches(name)
        self._more = True
        empty = _plain(name, schema(name).empty_table())
        self._recorded, self._now = empty, empty
        self._agreed = 0  # rows that were dropped
        self._shed: list[pa.ChunkedArray] = []  # seqs of those that `shed` dropped since a mark

    def add(self, batch: pa.RecordBatch) -> None:
        self._now = pa.concat_tables([self._now, _plain(self._name, pa.table(batch))])

    @property
    def many(self) -> bool:
        """Whether too many rows wait for the next window."""
        return self._traced and self._now.num_rows >= self._many

    def shed(self) -> int | None:
        """Compare and drop the rows that both sides have; if they differ, return the seq so far."""
        self._read(self._now["seq"][-1].as_py())
        count = min(self._now.num_rows, self._recorded.num_rows)
        recorded, now = self._recorded.slice(0, count), self._now.slice(0, count)
        if not _same(recorded, now):
            return int(now["seq"][-1].as_py())
        self._recorded, self._now = self._recorded.slice(count), self._now.slice(count)
        self._agreed += count
        self._shed.append(recorded["seq"])
        return None

    def agree(self, bound: int) -> bool:
        """Whether the rows before `bound` are the same."""
        self._read(bound)
        return _same(self._split(self._recorded, bound)[0], self._split(self._now, bound)[0])

    def drop(self, bound: int) -> None:
        """Drop the rows before `bound`, which agree."""
        before = self._recorded.num_rows
        self._recorded = self._split(self._recorded, bound)[1]
        self._now = self._split(self._now, bound)[1]
        self._agreed += before - self._recorded.num_rows
        self._shed.clear()

    def differences(self, bound: int, open_end: bool) -> Iterator[Difference]:
        """bound: where the comparison ends. open_end: the record itself ends near `bound`, and any
        rows it has beyond must occur now too."""
        self._read(END if open_end else bound)
        if self._exits:
            yield from self._first("seq_end", (), bound, open_end)
            yield from self._first("seq", self._exits, bound, open_end)
        else:
            yield from self._first("seq", (), bound, open_end)

    def agreed(self, bound: int) -> int:
        rows = self._recorded
        if bound == END:
            return self._agreed + int(rows.num_rows)
        beyond = sum(len(seqs) - _below(seqs, bound) for seqs in self._shed)
        return self._agreed - beyond + _below(rows[self._key], bound)

    def _read(self, bound: int) -> None:
        """Load the record's rows whose seq is below `bound`."""
        parts = [self._recorded]
        while self._more and (not parts[-1].num_rows or parts[-1]["seq"][-1].as_py() < bound):
            batch = next(self._batches, None)
            if batch is None:
                self._more = False
            else:
                parts.append(_plain(self._name, pa.table(batch)))
        self._recorded = pa.concat_tables(parts)

    def _split(self, rows: pa.Table, bound: int) -> tuple[pa.Table, pa.Table]:
        """Rows that were written before `bound`, in order, and the others."""
        if self._traced:
            count = _below(rows["seq"], bound)
            return rows.slice(0, count), rows.slice(count)
        early = fill_null(apply("less", rows[self._key], pa.scalar(bound, pa.uint64())), False)
        count = apply("sum", early).as_py() or 0
        if count == rows.num_rows:
            return _sorted(rows, self._key), rows.slice(0, 0)
        return _sorted(keep(rows, early), self._key), keep(rows, apply("invert", early))

    def _first(
        self, key: str, without: tuple[str, ...], bound: int, open_end: bool
    ) -> Iterator[Difference]:
        """The first difference, in the order of `key`, among the rows that have one."""
        recorded, now = (
            _sorted(keep(rows, apply("is_valid", rows[key])), key)
            for rows in (self._recorded, self._now)
        )
        due = _below(now[key], bound)
        if open_end:
            now = now.slice(0, max(due, recorded.num_rows))
        else:
            recorded, now = recorded.slice(0, _below(recorded[key], bound)), now.slice(0, due)
        columns = [name for name in recorded.column_names if name not in without]
        at = _first_difference(recorded.select(columns), now.select(columns))
        if at is None:
            return
        was = _row(self._name, recorded, at)
        is_now = _row(self._name, now, at)
        time = min(row[key] for row in (was, is_now) if row is not None)
        if key != "seq":
            # Show the call that ended first, on both sides.
            seq = next(r["seq"] for r in (was, is_now) if r is not None and r[key] == time)
            was, is_now = self._find(self._recorded, seq), self._find(self._now, seq)
        if was is not None and is_now is not None and was["seq"] == is_now["seq"]:
            differing = tuple(name for name in columns if was[name] != is_now[name])
        else:
            differing = ("seq",)
        yield Difference(self._name, time, was, is_now, differing)

    def _find(self, rows: pa.Table, seq: int) -> dict[str, Any] | None:
        at = index_of(rows["seq"], seq)
        return _row(self._name, rows, at) if at >= 0 else None


def _plain(name: str, rows: pa.Table) -> pa.Table:
    """Kinds as indices into their vocabulary: each writer orders its dictionary differently. Which
    columns may be null differs between versions of the schema."""
    for at, column in enumerate(TABLES[name].columns):
        if column.kinds:
            known = SetLookupOptions(words_of(name, column.name))
            chunks = [
                apply("take", apply("index_in", chunk.dictionary, options=known), chunk.indices)
                for chunk in rows.column(at).chunks
            ]
            rows = rows.set_column(at, column.name, pa.chunked_array(chunks, pa.int32()))
    return pa.table(dict(zip(rows.column_names, rows.columns, strict=True)))


def _row(name: str, rows: pa.Table, at: int) -> dict[str, Any] | None:
    """Row `at` with its kinds in words again; None past the end."""
    if at >= rows.num_rows:
        return None
    row: dict[str, Any] = rows.slice(at, 1).to_pylist()[0]
    for column in TABLES[name].columns:
        if column.kinds and row[column.name] is not None:
            row[column.name] = column.kinds[row[column.name]]
    return row


def _sorted(rows: pa.Table, key: str) -> pa.Table:
    """By `key`, then by seq; rows that are equal in both keep their order."""
    for name in dict.fromkeys(("seq", key)):
        keys = rows[name].combine_chunks()
        if len(keys) > 1 and not apply("all", apply("greater_equal", keys[1:], keys[:-1])).as_py():
            rows = sorted_by(rows, name)
    return rows


def _below(keys: pa.ChunkedArray, bound: int) -> int:
    return int(apply("sum", apply("less", keys, pa.scalar(bound, pa.uint64()))).as_py() or 0)


def _same(one: pa.Table, other: pa.Table) -> bool:
    return one.num_rows == other.num_rows and all(
        a.equals(b) for a, b in zip(one.columns, other.columns, strict=True)
    )


def _first_difference(one: pa.Table, other: pa.Table) -> int | None:
    """The first row that differs; a row that only one of them has differs too."""
    both = min(one.num_rows, other.num_rows)
    found = [both] if one.num_rows != other.num_rows else []
    for a, b in zip(one.slice(0, both).columns, other.slice(0, both).columns, strict=True):
        if a.equals(b):
            continue
        unequal = fill_null(apply("not_equal", a, b), False)
        one_null = apply("xor", apply("is_null", a), apply("is_null", b))
        found.append(index_of(apply("or", unequal, one_null), True))
    return min(found, default=None)
