"""content_sha256: a hash over a table's values that does not depend on the writer or the encoding.

Each column contributes, in the schema's order, its name and type, then the digests of three
sequences: one byte for each row (1 valid, 0 null); the values (little-endian, null as 0; bool and
kind as one byte, a kind being the word's index in the vocabulary; str and bytes as their u32
lengths); the bytes of str and bytes. The digest of a sequence is sha256 over its bytes, or, if all
its values are the same, over `=`, that value and its number of occurrences (u64): most columns of a
large table are constant. The table's hash is sha256 over all of these.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pyarrow as pa

from shstk.schemas.arrow import SetLookupOptions, apply, cast, fill_null
from shstk.schemas.tables import Column, Table

_MOST: Final = 2**20  # values of a repetition written out at once


class ContentHash:
    """Hashes a table's rows batch by batch; batch boundaries do not affect the hash."""

    def __init__(self, table: Table) -> None:
        self._columns = [_ColumnHash(column) for column in table.columns]

    def update(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
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
        self._valid = _SequenceHash()
        self._values = _SequenceHash()
        self._bytes = hashlib.sha256()

    def update(self, array: pa.Array) -> None:
        if array.null_count in (0, len(array)):
            self._valid.repeat(b"\0" if array.null_count else b"\1", len(array))
        else:
            self._valid.update(cast(apply("is_valid", array), pa.uint8()))
        if self._column.kinds:
            # Each writer orders its dictionary differently.
            words = pa.array(self._column.kinds, pa.string())
            indices = array.indices
            if not array.dictionary.equals(words):
                numbers = apply("index_in", array.dictionary, options=SetLookupOptions(words))
                indices = apply("take", cast(numbers, pa.int8()), indices)
            array = indices
        elif self._column.base in ("str", "bytes"):
            array = fill_null(cast(array, pa.binary()), b"")
            self._bytes.update(_data_of(array))
            array = cast(apply("binary_length", array), pa.uint32())
        elif self._column.base == "bool":
            array = cast(array, pa.uint8())
        self._values.update(fill_null(array, 0))

    def digest(self) -> bytes:
        head = f"{self._column.name} {self._column.type}\n".encode()
        return head + self._valid.digest() + self._values.digest() + self._bytes.digest()


class _SequenceHash:
    """The digest of a sequence of numbers of one width."""

    def __init__(self) -> None:
        self._hash: Any = None  # None as long as all values are the same:
        self._value = b""
        self._count = 0

    def update(self, array: pa.Array) -> None:
        """array: no nulls, at least one value."""
        raw = _raw(array)
        if self._hash is None:
            first = bytes(raw[: len(raw) // len(array)])
            if self._expected(first) and _constant(array):
                self.repeat(first, len(array))
                return
            self._write_out()
        self._hash.update(raw)

    def repeat(self, value: bytes, count: int) -> None:
        if self._hash is None and self._expected(value):
            self._value = value
            self._count += count
            return
        if self._hash is None:
            self._write_out()
        _repeat(self._hash, value, count)

    def digest(self) -> bytes:
        if self._hash is not None:
            return bytes(self._hash.digest())
        return hashlib.sha256(b"=" + self._value + self._count.to_bytes(8, "little")).digest()

    def _expected(self, value: bytes) -> bool:
        return not self._count or value == self._value

    def _write_out(self) -> None:
        self._hash = hashlib.sha256()
        _repeat(self._hash, self._value, self._count)


def _repeat(hash_: Any, value: bytes, count: int) -> None:
    many = value * min(count, _MOST)
    while count:
        now = min(count, _MOST)
        hash_.update(many[: now * len(value)])
        count -= now


def _constant(array: pa.Array) -> bool:
    if array[0] != array[-1]:
        return False
    ends = apply("min_max", array)
    return bool(ends["min"] == ends["max"])


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
