"""Rows as plain Python values, by the names of the columns or in their order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from shstk.schemas.tables import TABLES

TableRow = tuple[str, dict[str, Any]]  # a table and a row of it
Values = tuple[Any, ...]  # a row as one value for each column of its table, in their order


def in_order(table: str, columns: Mapping[str, Any]) -> Values:
    """A row's values in the order of the columns. ValueError for a column the table hasn't."""
    known = _names(table)
    if not columns.keys() <= known.keys():
        raise ValueError(f"{table} has no column {min(columns.keys() - known.keys())}")
    return tuple(map(columns.get, known))


@cache
def _names(table: str) -> dict[str, None]:
    """The columns in their order, as a set that keeps it."""
    return dict.fromkeys(TABLES[table].names)


def by_name(table: str, values: Values) -> dict[str, Any]:
    """The opposite of `in_order`."""
    return dict(zip(_names(table), values, strict=True))
