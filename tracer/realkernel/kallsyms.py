"""The symbols of a raw riscv64 Image, from the tables that CONFIG_KALLSYMS leaves in it.

scripts/kallsyms.c writes them, next to each other and without any header:

    num_syms     u32, in some versions padded to 8 bytes
    names        a length (one byte, or two with the high bit set), then one token a byte; the first
                 letter of a name is its type
    markers      u32 for every 256th name: its offset in names
    token_table  256 NUL-terminated strings
    token_index  u16 for each token: its offset in token_table
    offsets      i32 for each name

Since 6.5 in this order, with the u64 relative_base behind the offsets until 7.0, when the offsets
became relative to their own place. Before 6.5 offsets and relative_base came before num_syms.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# KERNEL_LINK_ADDR of a 64-bit kernel (asm/pgtable.h), where the Image's first byte lies.
LINK: Final = 0xFFFF_FFFF_8000_0000

_MASK: Final = 2**64 - 1
# Each digit is a token that stands for itself, at its own number.
_DIGITS: Final = re.compile(re.escape(b"".join(b"%d\0" % digit for digit in range(10))))
_TOKENS: Final = 256
_TYPES: Final = frozenset(bytes([letter]) for letter in b"AaBbDdRrTtVvWw")
_LONGEST_TOKEN: Final = 128
_FEWEST, _MOST = 10_000, 1_000_000  # symbols of a kernel
_NAMES_BEFORE: Final = 24 << 20  # names and markers lie within so many bytes before the tokens


class NoSymbols(Exception):
    """Why the Image has no symbols that can be read."""


@dataclass(frozen=True)
class _Tokens:
    start: int
    end: int  # of the index
    strings: list[bytes]


@dataclass(frozen=True)
class _Names:
    start: int  # of num_syms
    count: int
    at: list[int]  # where each name begins


def symbols(image: bytes) -> dict[str, int]:
    """Name -> address; of several symbols with one name the first. Raises NoSymbols."""
    try:
        tokens = _find_tokens(image)
        names = _find_names(image, tokens)
        texts = [_text(image, at, tokens.strings) for at in names.at]
        addresses = _addresses(image, tokens, names, texts)
    except (IndexError, struct.error) as error:
        raise NoSymbols(f"its symbol tables are damaged: {error}") from error
    found: dict[str, int] = {}
    for text, address in zip(texts, addresses, strict=True):
        found.setdefault(text[1:], address)
    return found


def _find_tokens(image: bytes) -> _Tokens:
    for match in _DIGITS.finditer(image):
        start = _back(image, match.start(), ord("0"))
        if start is None:
            continue
        strings, end = [], start
        for _ in range(_TOKENS):
            stop = image.find(b"\0", end)
            strings.append(image[end:stop])
            end = stop + 1
        index, offset = [], 0
        for string in strings:
            index.append(offset)
            offset += len(string) + 1
        if offset >= 1 << 16:
            continue
        packed = struct.pack(f"<{_TOKENS}H", *index)
        at = image.find(packed, end, end + len(packed) + 64)
        if at >= 0:
            return _Tokens(start, at + len(packed), strings)
    raise NoSymbols("there is no token table: the kernel was built without CONFIG_KALLSYMS")


def _back(image: bytes, at: int, strings: int) -> int | None:
    """Where the string that is so many strings before the one at `at` begins."""
    for _ in range(strings):
        start = image.rfind(b"\0", 0, at - 1) + 1
        if at - start > _LONGEST_TOKEN:
            return None
        at = start
    return at


def _find_names(image: bytes, tokens: _Tokens) -> _Names:
    low = max(0, tokens.start - _NAMES_BEFORE) & ~3
    words = array("I", image[low : tokens.start & ~3])
    types = frozenset(i for i, string in enumerate(tokens.strings) if string[:1] in _TYPES)
    for place in range(len(words) - 1, -1, -1):
        if not _FEWEST < (count := words[place]) < _MOST:
            continue
        start = low + 4 * place
        for first in (start + 4, start + 8):
            at = _walk(image, first, count, types)
            if at is not None:
                return _Names(start, count, at)
    raise NoSymbols("there is a token table, but no table of names before it")


def _walk(image: bytes, first: int, count: int, types: frozenset[int]) -> list[int] | None:
    """Where each name begins, if names begin at `first` and markers follow them."""
    at, found = first, []
    for _ in range(count):
        if at + 2 >= len(image):
            return None
        found.append(at)
        length, head = _length(image, at)
        at += head
        if not length or image[at] not in types:
            return None
        at += length
    markers = [name - first for name in found[::256]]
    place = image.find(struct.pack(f"<{len(markers)}I", *markers), at, at + 8 + 4 * len(markers))
    return found if place >= 0 else None


def _length(image: bytes, at: int) -> tuple[int, int]:
    """The tokens of the name at `at`, and the bytes of that number."""
    length = image[at]
    if length & 0x80:
        return length & 0x7F | image[at + 1] << 7, 2
    return length, 1


def _text(image: bytes, at: int, tokens: list[bytes]) -> str:
    length, head = _length(image, at)
    at += head
    return b"".join([tokens[byte] for byte in image[at : at + length]]).decode("utf-8", "replace")


def _addresses(
    image: bytes, tokens: _Tokens, names: _Names, texts: list[str]
) -> Iterator[int] | list[int]:
    """The layout that puts the Image's first symbol on its first byte."""
    anchor = next((i for i, text in enumerate(texts) if text[1:] in ("_start", "_text")), None)
    if anchor is None:
        raise NoSymbols("no symbol says where the Image begins")
    count = names.count
    for place in range(tokens.end, tokens.end + 64, 4):
        if (offsets := _offsets(image, place, count)) is None:
            break
        if place + 4 * anchor + offsets[anchor] == 0:
            return [LINK + place + 4 * i + offset & _MASK for i, offset in enumerate(offsets)]
        behind = place + 4 * count
        for base_at in (behind, behind + 4):
            if (found := _based(image, offsets, anchor, base_at)) is not None:
                return found
    for base_at in (names.start - 8, names.start - 12):
        for place in (base_at - 4 * count, base_at - 4 * count - 4):
            offsets = _offsets(image, place, count)
            if offsets and (found := _based(image, offsets, anchor, base_at)) is not None:
                return found
    raise NoSymbols("the symbols' addresses are in a form that is not known")


def _offsets(image: bytes, place: int, count: int) -> tuple[int, ...] | None:
    """None: they can't lie there."""
    if not 0 <= place <= len(image) - 4 * count:
        return None
    return struct.unpack_from(f"<{count}i", image, place)


def _based(image: bytes, offsets: tuple[int, ...], anchor: int, base_at: int) -> list[int] | None:
    """The addresses, if the u64 relative_base lies there."""
    if base_at + 8 > len(image):
        return None
    (base,) = struct.unpack_from("<Q", image, base_at)
    if base + (offsets[anchor] & 0xFFFF_FFFF) & _MASK != LINK:
        return None
    return [base + (offset & 0xFFFF_FFFF) & _MASK for offset in offsets]
