"""What the footer of a Parquet file says of its column chunks.

pyarrow can tell it too, but where a footer contradicts itself, its `RowGroupMetaData.column` and
`ColumnChunkMetaData.statistics` end the process: they let C++ exceptions out. The footer is a
struct in Thrift's compact protocol (parquet.thrift has the numbers of its fields).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, Final, NamedTuple

_TAIL: Final = struct.Struct("<I4s")  # length of the footer, and PAR1
_VARINT: Final = 10  # bytes of the longest
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class Chunk(NamedTuple):
    """A column in a row group. nulls: how many its statistics tell; None: they do not."""

    name: str
    bytes: int  # uncompressed
    nulls: int | None


class Group(NamedTuple):
    rows: int
    chunks: list[Chunk]


def row_groups(file: Path) -> list[Group]:
    """Raises ValueError, OSError."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(size - _TAIL.size, 0))
        tail = opened.read()
        length, magic = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (0, b"")
        if magic != b"PAR1" or length > size - _TAIL.size:
            raise ValueError("it does not end as a Parquet file does")
        opened.seek(size - _TAIL.size - length)
        footer = opened.read(length)
    try:
        return [_group(group) for group in _Reader(footer).struct().get(4, [])]
    except (IndexError, KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError):
        raise ValueError("its footer can't be read") from None


def _group(fields: dict[int, Any]) -> Group:
    return Group(int(fields[3]), [_chunk(chunk[3]) for chunk in fields[1]])


def _chunk(fields: dict[int, Any]) -> Chunk:
    name = b".".join(fields[3]).decode()
    return Chunk(name, int(fields[6]), fields.get(12, {}).get(3))


class _Reader:
    """Values of the compact protocol: a struct is a dict, whose keys are the numbers of fields."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while header := self._byte():
            step = header >> 4
            number = number + step if step else self._signed()
            kind = header & 15
            fields[number] = kind == _TRUE if kind <= _FALSE else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _BINARY:
            return self._bytes(self._unsigned())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            header = self._byte()
            size = header >> 4 if header >> 4 < 15 else self._unsigned()
            return [self._value(header & 15) for _ in range(size)]
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind <= _BYTE:
            return self._byte()
        raise KeyError(kind)  # Parquet has no maps

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise IndexError
        return self._data[self._at - size : self._at]

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 7 * _VARINT, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise IndexError

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
