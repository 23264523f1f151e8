"""Rows of plain Python values as Arrow, checked against the table they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa

from shstk.schemas.arrow import cast
from shstk.schemas.tables import TABLES, Column, Table, arrow_schema

INTEGERS = {
    "u8": (0, 2**8 - 1),
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
}
_OTHERS = {"bool": bool, "str": str, "bytes": bytes, "kind": str}


class BadRow(ValueError):
    """A row that does not fit its table; the message names table and column."""


@cache
def schema(table: str) -> pa.Schema:
    return arrow_schema(TABLES[table])


@cache
def words_of(table: str, column: str) -> pa.Array:
    """The dictionary of a kind column: its whole vocabulary, so that indices agree everywhere."""
    return pa.array(TABLES[table].column(column).kinds, pa.string())


def kind_array(table: str, column: str, indices: pa.Array) -> pa.Array:
    """A kind column from its indices into the vocabulary."""
    return pa.DictionaryArray.from_arrays(cast(indices, pa.int8()), words_of(table, column))


def check(table: Table, row: Mapping[str, Any]) -> None:
    """Raises BadRow if the row does not fit the table."""
    for column in table.columns:
        value = row.get(column.name)
        if value is None:
            if not column.nullable:
                raise BadRow(f"{table.name}.{column.name} may not be null")
        elif column.base in INTEGERS:
            low, high = INTEGERS[column.base]
            if not isinstance(value, int) or not low <= value <= high:
                raise BadRow(f"{table.name}.{column.name}: {value!r} is not of type {column.base}")
        elif not isinstance(value, _OTHERS[column.base]):
            raise BadRow(f"{table.name}.{column.name}: {value!r} is not of type {column.base}")
        elif column.kinds and value not in column.kinds:
            raise BadRow(f"{table.name}.{column.name}: {value!r} is not one of {column.kinds}")
    if not row.keys() <= set(table.names):
        raise BadRow(f"{table.name} has no column {min(row.keys() - set(table.names))}")


def to_batch(table: Table, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """The rows in order. Raises BadRow for the first that does not fit the table."""
    try:
        return _batch(table, [[row.get(name) for row in rows] for name in table.names])
    except _MISFITS as e:
        raise _bad_row(table, rows, e) from e


_MISFITS = (KeyError, TypeError, ValueError, OverflowError, pa.ArrowException)


def _bad_row(table: Table, rows: Sequence[Mapping[str, Any]], error: Exception) -> BadRow:
    for row in rows:
        check(table, row)
    return BadRow(f"{table.name}: {error}")


def _batch(table: Table, columns: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    arrays = [_array(table, *pair) for pair in zip(table.columns, columns, strict=True)]
    return pa.record_batch(arrays, schema=schema(table.name))


def _array(table: Table, column: Column, values: Sequence[Any]) -> pa.Array:
    if column.kinds:
        numbers = list(map(_numbers(table.name, column.name).__getitem__, values))
        return kind_array(table.name, column.name, pa.array(numbers, pa.int8()))
    array = pa.array(values, schema(table.name).field(column.name).type)
    if not column.nullable and array.null_count:
        raise ValueError(f"{column.name} may not be null")
    return array


@cache
def _numbers(table: str, column: str) -> dict[str | None, int | None]:
    """The words of a kind column -> their indices."""
    described = TABLES[table].column(column)
    words: dict[str | None, int | None] = {w: i for i, w in enumerate(described.kinds)}
    return words | {None: None} if described.nullable else words
