"""content_sha256: a hash over a table's values that does not depend on who wrote the file, or how.

Of every column, in the schema's order: its name and type, then sha256 over one byte a row (1 valid,
0 null), sha256 over the values (little-endian, null as 0; bool and kind as one byte, kind being the
word's index in the vocabulary; str and bytes as their u32 lengths) and sha256 over the bytes of str
and bytes. The table's hash is sha256 over those.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from schemas.tables import Column, Table

if TYPE_CHECKING:
    import pyarrow as pa


class ContentHash:
    """Takes a table's rows batch by batch; how they are cut into batches does not matter."""

    def __init__(self, table: Table) -> None:
        self._columns = [_ColumnHash(column) for column in table.columns]

    def update(self, batch: pa.RecordBatch) -> None:
        for column, array in zip(self._columns, batch.columns, strict=True):
            column.update(array)

    def hexdigest(self) -> str:
        whole = hashlib.sha256()
        for column in self._columns:
            whole.update(column.digest())
        return whole.hexdigest()


class _ColumnHash:
    def __init__(self, column: Column) -> None:
        self._column = column
        self._valid = hashlib.sha256()
        self._values = hashlib.sha256()
        self._bytes = hashlib.sha256()

    def update(self, array: pa.Array) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self._valid.update(_raw(array.is_valid().cast(pa.uint8())))
        if self._column.kinds:
            # Whoever wrote it may have ordered the dictionary its own way.
            words = pa.array(self._column.kinds, pa.string())
            to_index = pc.index_in(array.dictionary, words).cast(pa.int8())
            array = to_index.take(array.indices)
        elif self._column.base in ("str", "bytes"):
            array = array.cast(pa.binary()).fill_null(b"")
            self._bytes.update(_data_of(array))
            array = pc.binary_length(array).cast(pa.uint32())
        elif self._column.base == "bool":
            array = array.cast(pa.uint8())
        self._values.update(_raw(array.fill_null(0)))

    def digest(self) -> bytes:
        head = f"{self._column.name} {self._column.type}\n".encode()
        return head + self._valid.digest() + self._values.digest() + self._bytes.digest()


def _raw(array: pa.Array) -> memoryview:
    """The bytes of an array of numbers without nulls."""
    width = array.type.bit_width // 8
    data = array.buffers()[1]
    if data is None:
        return memoryview(b"")
    return memoryview(data)[array.offset * width : (array.offset + len(array)) * width]


def _data_of(array: pa.Array) -> memoryview:
    """The bytes of a binary array, one value after the other."""
    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return memoryview(b"")
    ends = memoryview(offsets).cast("i")
    return memoryview(data)[ends[array.offset] : ends[array.offset + len(array)]]
