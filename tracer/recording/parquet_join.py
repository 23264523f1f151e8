"""Joins Parquet files of the same schema without decoding: pages end to end, footers merged.

pyarrow cannot append to a file, and a Parquet file is unreadable until its footer is written at the
end. So that a recording survives kill -9, every row group is a complete file until the run is
sealed. A footer is a struct in Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md) with the fields
of https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift. Fields that
are not named here are copied unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any, BinaryIO, Final

MAGIC: Final = b"PAR1"

# Thrift's compact types.
_TRUE, _FALSE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 7, 8, 9, 10, 12
_INTEGERS: Final = (4, 5, 6)

# Field numbers of parquet.thrift.
_NUM_ROWS, _ROW_GROUPS = 3, 4  # FileMetaData
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7  # RowGroup
_CHUNK_OFFSET, _META_DATA = 2, 3  # ColumnChunk
_PAGE_OFFSETS: Final = (9, 10, 11)  # ColumnMetaData: first data, index and dictionary page

_Struct = dict[int, tuple[int, Any]]  # field: (type, value); for a list: (type, (type, values))


def join(parts: Sequence[Path], target: Path) -> None:
    """Write the row groups of `parts`, in order, to one file. At least one part."""
    if len(parts) == 1:
        copyfile(parts[0], target)
        return
    footer: _Struct = {}
    with target.open("wb") as out:
        out.write(MAGIC)
        for part in parts:
            with part.open("rb") as file:
                pages, found = _read_footer(file)
                shift = out.tell() - len(MAGIC)
                for group in found[_ROW_GROUPS][1][1]:
                    _move(group, shift)
                file.seek(len(MAGIC))
                _copy(file, out, pages)
            if footer:
                footer[_NUM_ROWS] = (6, footer[_NUM_ROWS][1] + found[_NUM_ROWS][1])
                footer[_ROW_GROUPS][1][1].extend(found[_ROW_GROUPS][1][1])
            else:
                footer = found
        encoded = bytearray()
        _write_struct(encoded, footer)
        out.write(encoded)
        out.write(len(encoded).to_bytes(4, "little") + MAGIC)


def _read_footer(file: BinaryIO) -> tuple[int, _Struct]:
    """The number of bytes of pages, and the footer."""
    end = file.seek(0, 2)
    file.seek(end - 8)
    length = int.from_bytes(file.read(4), "little")
    start = end - 8 - length
    file.seek(start)
    return start - len(MAGIC), _Reader(file.read(length)).struct()


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count:
        count -= target.write(source.read(min(count, 1 << 20)))


def _move(group: _Struct, shift: int) -> None:
    group.pop(_ORDINAL, None)  # an i16, which a long run would overflow; readers do not need it
    _add(group, _GROUP_OFFSET, shift)
    for chunk in group[_COLUMNS][1][1]:
        _add(chunk, _CHUNK_OFFSET, shift)
        for field in _PAGE_OFFSETS:
            _add(chunk[_META_DATA][1], field, shift)


def _add(struct: _Struct, field: int, shift: int) -> None:
    kind, value = struct.get(field, (0, 0))
    if value:  # 0: absent
        struct[field] = (kind, value + shift)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self) -> _Struct:
        fields: _Struct = {}
        field = 0
        while head := self._byte():
            kind = head & 15
            field = field + (head >> 4) if head >> 4 else self._zigzag()
            fields[field] = (kind, kind == _TRUE if kind <= _FALSE else self._value(kind))
        return fields

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._zigzag()
        if kind == _STRUCT:
            return self.struct()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint()
            return head & 15, [self._value(head & 15) for _ in range(count)]
        return self._byte()  # i8, and a bool in a list


def _write_struct(out: bytearray, fields: _Struct) -> None:
    last = 0
    for field, (kind, value) in sorted(fields.items()):
        head = (_TRUE if value else _FALSE) if kind <= _FALSE else kind
        if field - last < 16:
            out.append(field - last << 4 | head)
        else:
            out.append(head)
            _write_zigzag(out, field)
        last = field
        if kind > _FALSE:
            _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in _INTEGERS:
        _write_zigzag(out, value)
    elif kind == _STRUCT:
        _write_struct(out, value)
    elif kind == _BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind == _DOUBLE:
        out += value
    elif kind in (_LIST, _SET):
        element, values = value
        out.append(min(len(values), 15) << 4 | element)
        if len(values) >= 15:
            _write_varint(out, len(values))
        for item in values:
            _write_value(out, element, item)
    else:
        out.append(value)


def _write_zigzag(out: bytearray, value: int) -> None:
    _write_varint(out, value << 1 if value >= 0 else ~value << 1 | 1)


def _write_varint(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
