"""The rows of the kernel model, as columns from the moment they are added."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from shstk.schemas.arrow import cast
from shstk.schemas.rows import kind_array, schema
from shstk.schemas.tables import TABLES
from shstk.tracer._core import RowBuffer

# How the buffers hold types that Arrow holds otherwise.
_STORED: Final = {"bool": pa.uint8(), "kind": pa.int8()}

Drained = list[tuple[bytes | None, bytes, bytes | None]]  # validity, values, offsets of each column


def row_buffer(table: str) -> RowBuffer:
    return RowBuffer([(c.name, c.type, c.kinds) for c in TABLES[table].columns])


def drained_batch(table: str, rows: int, drained: Drained) -> pa.RecordBatch:
    """What RowBuffer.drain returned for so many rows."""
    arrays = []
    for column, (valid, values, offsets) in zip(TABLES[table].columns, drained, strict=True):
        type_ = _STORED.get(column.base) or schema(table).field(column.name).type
        parts = [valid, values] if offsets is None else [valid, offsets, values]
        buffers = [None if part is None else pa.py_buffer(part) for part in parts]
        array = pa.Array.from_buffers(type_, rows, buffers)
        if column.kinds:
            array = kind_array(table, column.name, array)
        arrays.append(cast(array, pa.bool_()) if column.base == "bool" else array)
    return pa.record_batch(arrays, schema=schema(table))
