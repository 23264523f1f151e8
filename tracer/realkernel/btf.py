"""Where the members of the kernel's structs lie, from the BTF in a raw Image.

Its format: Documentation/bpf/btf.rst.

CONFIG_DEBUG_INFO_BTF puts one section into the kernel: a header, the types one after the other, and
their names. Nothing says where in the Image it is, so it is found by its header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("<HBBI4I")  # magic, version, flags, its size, types at, size, names
_MAGIC: Final = struct.pack("<HBBI", 0xEB9F, 1, 0, _HEADER.size)
_SMALLEST: Final = 100_000  # bytes of the kernel's types; what a BPF object brings has fewer

_STRUCT, _UNION = 4, 5
_QUALIFIERS: Final = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, a type's tag
# What follows a type's three words: bytes, and bytes for each of its members.
_TAIL: Final = {
    1: (4, 0),  # an integer
    3: (12, 0),  # an array
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    6: (0, 8),  # an enum
    13: (0, 8),  # a function's prototype
    14: (4, 0),  # a variable
    15: (0, 12),  # a section
    17: (4, 0),  # a declaration's tag
    19: (0, 12),  # an enum of 64 bits
}


class NoTypes(Exception):
    """Why the Image has no types that can be read."""


@dataclass(frozen=True)
class _Type:
    kind: int
    size: int  # or the type that it refers to
    at: int  # of its members
    members: int
    bit_fields: bool


class Btf:
    def __init__(self, image: bytes) -> None:
        """Raises NoTypes."""
        start, size, names, length = _find(image)
        self._data = image[start : start + size]
        self._names = image[names : names + length]
        self._types = [_Type(0, 0, 0, 0, False)]  # number 0 is void
        self._structs: dict[str, int] = {}
        with _damage():
            self._read()

    def _read(self) -> None:
        at = 0
        while at < len(self._data):
            name, info, size = struct.unpack_from("<3I", self._data, at)
            kind, members = info >> 24 & 31, info & 0xFFFF
            if kind in (_STRUCT, _UNION) and name and members:
                self._structs.setdefault(self._name(name), len(self._types))
            self._types.append(_Type(kind, size, at + 12, members, bool(info >> 31)))
            fixed, each = _TAIL.get(kind, (0, 0))
            at += 12 + fixed + each * members

    def _name(self, offset: int) -> str:
        return self._names[offset : self._names.index(b"\0", offset)].decode()

    def size(self, name: str) -> int | None:
        """Bytes of a struct; None if the kernel has none of that name."""
        number = self._structs.get(name)
        return None if number is None else self._types[number].size

    def offset(self, path: str) -> int | None:
        """The byte at which `struct.member.member` lies; None if the kernel has no such member.
        The members of unnamed structs and unions count as the outer's own. Raises NoTypes."""
        with _damage():
            return self._offset(path)

    def _offset(self, path: str) -> int | None:
        name, *members = path.split(".")
        found = self._structs.get(name)
        bits = 0
        for member in members:
            if found is None:
                return None
            step = self._member(self._bare(found), member)
            if step is None:
                return None
            bits, found = bits + step[0], step[1]
        return None if found is None else bits // 8

    def _bare(self, number: int) -> _Type:
        of = self._types[number]
        return self._bare(of.size) if of.kind in _QUALIFIERS else of

    def _members(self, of: _Type) -> Iterator[tuple[int, int, int]]:
        if of.kind in (_STRUCT, _UNION):
            for i in range(of.members):
                name, number, place = struct.unpack_from("<3I", self._data, of.at + 12 * i)
                yield name, number, place & 0xFF_FFFF if of.bit_fields else place

    def _member(self, of: _Type, wanted: str) -> tuple[int, int] | None:
        """(bits from the start, type)."""
        for name, number, place in self._members(of):
            if name and self._name(name) == wanted:
                return place, number
            if not name and (inner := self._member(self._bare(number), wanted)):
                return place + inner[0], inner[1]
        return None


@contextmanager
def _damage() -> Iterator[None]:
    """What damaged types lead to: ends that are not there, types that contain themselves."""
    try:
        yield
    except (IndexError, ValueError, struct.error, RecursionError) as error:
        raise NoTypes(f"its types are damaged: {error}") from error


def _find(image: bytes) -> tuple[int, int, int, int]:
    """(the types, their size, the names, their size)."""
    at = image.find(_MAGIC)
    while at >= 0:
        *_, types, types_size, names, names_size = _HEADER.unpack_from(image, at)
        if types_size > _SMALLEST and names == types + types_size:
            base = at + _HEADER.size
            return base + types, types_size, base + names, names_size
        at = image.find(_MAGIC, at + 1)
    raise NoTypes("there are no types: the kernel was built without CONFIG_DEBUG_INFO_BTF")
