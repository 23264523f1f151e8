"""Rows of plain Python values as Arrow, checked against the table they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pyarrow as pa

from shstk.schemas.tables import TABLES, Column, Table, arrow_schema

INTEGERS = {
    "u8": (0, 2**8 - 1),
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
    "i32": (-(2**31), 2**31 - 1),
    "i64": (-(2**63), 2**63 - 1),
}
_OTHERS = {"bool": bool, "str": str, "bytes": bytes, "kind": str}


TableRow = tuple[str, dict[str, Any]]  # a table and a row of it


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
    return pa.DictionaryArray.from_arrays(indices.cast(pa.int8()), words_of(table, column))


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
        arrays = [_array(table, column, rows) for column in table.columns]
    except (KeyError, TypeError, ValueError, OverflowError, pa.ArrowException) as e:
        for row in rows:
            check(table, row)
        raise BadRow(f"{table.name}: {e}") from e
    return pa.record_batch(arrays, schema=schema(table.name))


def _array(table: Table, column: Column, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    values = [row.get(column.name) for row in rows]
    if not column.nullable and None in values:
        raise ValueError(f"{column.name} may not be null")
    if column.kinds:
        index = {word: i for i, word in enumerate(column.kinds)}
        numbers = [None if value is None else index[value] for value in values]
        return kind_array(table.name, column.name, pa.array(numbers, pa.int8()))
    return pa.array(values, schema(table.name).field(column.name).type)
