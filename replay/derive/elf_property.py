"""The feature bits for landing pads and shadow stacks in an ELF file's .note.gnu.property."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from shstk.schemas.uapi import GNU_PROPERTY_RISCV_FEATURE_1_AND

_PT_NOTE, _PT_GNU_PROPERTY = 4, 0x6474E553
_NT_GNU_PROPERTY_TYPE_0: Final = 5
_PHDR: Final = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
_WORDS: Final = struct.Struct("<III")
_PROPERTY: Final = struct.Struct("<II")


def features(elf: bytes) -> int:
    """The bits of GNU_PROPERTY_RISCV_FEATURE_1_AND; 0 without the note or if not an ELF64."""
    if elf[:5] != b"\x7fELF\x02":
        return 0
    try:
        return _features(elf)
    except struct.error:
        return 0  # truncated


def _features(elf: bytes) -> int:
    (phoff,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    for i in range(count):
        kind, _, offset, _, _, length, _, align = _PHDR.unpack_from(elf, phoff + i * size)
        if kind in (_PT_NOTE, _PT_GNU_PROPERTY):
            for bits in _notes(elf[offset : offset + length], max(align, 4)):
                return bits
    return 0


def _notes(data: bytes, align: int) -> Iterator[int]:
    """The feature bits of each GNU property note."""
    at = 0
    while at + _WORDS.size <= len(data):
        name_size, size, kind = _WORDS.unpack_from(data, at)
        name_at = at + _WORDS.size
        begin = _up(name_at + name_size, align)
        if kind == _NT_GNU_PROPERTY_TYPE_0 and data[name_at : name_at + name_size] == b"GNU\0":
            yield from _properties(data[begin : begin + size])
        at = _up(begin + size, align)


def _properties(data: bytes) -> Iterator[int]:
    at = 0
    while at + _PROPERTY.size <= len(data):
        kind, size = _PROPERTY.unpack_from(data, at)
        if kind == GNU_PROPERTY_RISCV_FEATURE_1_AND and size == 4:
            yield int.from_bytes(data[at + 8 : at + 12], "little")
        at = _up(at + 8 + size, 8)


def _up(value: int, align: int) -> int:
    return -(-value // align) * align
