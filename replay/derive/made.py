"""What replay's core gathered, as frames, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from shstk.replay._core import Made

Columns: TypeAlias = Mapping[str, type[pl.DataType]]

_ARROW: Final[dict[type[pl.DataType], pa.DataType]] = {
    pl.UInt64: pa.uint64(),
    pl.UInt32: pa.uint32(),
}


def frame(made: Sequence[Made], columns: Columns) -> pl.DataFrame:
    """The columns by name: UInt64, UInt32, or another that is cast from u8."""
    arrays, known, made_of = {}, {}, []
    for (name, kind), (values, there) in zip(columns.items(), made, strict=True):
        count, column = len(there), pl.col(name).cast(kind)
        arrays[name] = _array(values, _ARROW.get(kind, pa.uint8()), count)
        if b"\0" in there:
            known[f"{name} known"] = _array(there, pa.uint8(), count)
            column = pl.when(pl.col(f"{name} known") == 1).then(column).alias(name)
        made_of.append(column)
    return pl.DataFrame(pa.RecordBatch.from_pydict(arrays | known)).select(made_of)


def _array(values: bytes, kind: pa.DataType, count: int) -> pa.Array:
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(values)])


def numbers(series: pl.Series) -> bytes:
    """A series without nulls, as the core takes it."""
    array = series.cast(pl.UInt64).rechunk().to_arrow()
    if not len(array):
        return b""
    first = array.offset * 8
    return bytes(array.buffers()[1][first : first + len(array) * 8])
