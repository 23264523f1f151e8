"""The definition of a view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.schemas.tables import Column
from shstk.schemas.units import Unit

if TYPE_CHECKING:
    from shstk.replay.run import Run

_DTYPES: Final = {
    "u32": "UInt32",
    "u64": "UInt64",
    "i32": "Int32",
    "i64": "Int64",
    "str": "String",
    "bool": "Boolean",
}


@dataclass(frozen=True)
class View:
    """A frame derived from a run. `build` creates it, with exactly `columns`.

    question: the question it answers. doc: what a row is.
    """

    name: str
    question: str
    doc: str
    columns: tuple[Column, ...]
    build: Callable[[Run], pl.DataFrame]

    @property
    def units(self) -> dict[str, Unit]:
        return {c.name: c.unit for c in self.columns}


def frame(columns: tuple[Column, ...], rows: Iterable[tuple[Any, ...]]) -> pl.DataFrame:
    """Rows of Python values as a frame of a view's columns."""
    schema = {c.name: getattr(pl, _DTYPES[c.base]) for c in columns}
    return pl.DataFrame(list(rows), schema=schema, orient="row")
