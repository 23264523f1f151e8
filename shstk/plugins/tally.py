"""Sums by key over many batches, in bounded memory."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

_PARTS: Final = 32  # frames kept before they are merged


class Tally:
    """keys: the columns to group by. how: sum, min, max or first for each other column."""

    def __init__(self, *keys: str, **how: str) -> None:
        self._keys = keys
        self._how = how
        self._parts: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        """rows: the keys and the other columns, in the order of the run."""
        self._parts.append(self._merged(rows))
        if len(self._parts) == _PARTS:
            self._parts = [self._merged(pl.concat(self._parts))]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each key, by key."""
        if not self._parts:
            return []
        return self._merged(pl.concat(self._parts)).sort(self._keys).rows(named=True)

    def _merged(self, rows: pl.DataFrame) -> pl.DataFrame:
        made = [getattr(pl.col(column), how)() for column, how in self._how.items()]
        return rows.group_by(self._keys, maintain_order=True).agg(made)
