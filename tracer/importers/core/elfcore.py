"""The container of a core dump: an ELF file of type ET_CORE with notes and areas of memory.

A core may be cut off (RLIMIT_CORE, a full disk): what is there is read.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.elf.enums import ENUM_E_MACHINE, ENUM_E_TYPE

from shstk.schemas.errors import BadRecording
from shstk.tracer.packed import is_packed, unpacked

_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct("<IIQQQQQQ")
_SHDR: Final = struct.Struct("<IIQQQQIIQQ")
_NHDR: Final = struct.Struct("<III")
_ET_CORE, _EM_RISCV = 4, 243
_PT_LOAD, _PT_NOTE = 1, 4
_PN_XNUM: Final = 0xFFFF  # the count is sh_info of section 0
_TOP: Final = 1 << 64
_WANTED: Final = "give the core dump of a riscv64 program"


@dataclass(frozen=True, slots=True)
class Segment:
    """An area of memory. size: of its first bytes, how many are in the file; due: how many the dump
    would have had if it had not been cut off."""

    start: int
    length: int
    flags: int  # PF_X 1, PF_W 2, PF_R 4
    at: int  # in the file
    size: int
    due: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Note:
    owner: bytes
    kind: int
    data: bytes


class Core:
    """A core dump's notes and memory. cut: whether the file ends before its contents do."""

    def __init__(self, path: Path) -> None:
        """Raises BadRecording."""
        self.path = path
        self._data = _bytes(path)
        self._length = len(self._data)
        headers = list(self._headers(*self._table()))
        loads = (h for h in headers if h[0] == _PT_LOAD and h[6])
        self.segments = sorted(map(self._segment, loads), key=lambda s: s.start)
        self.cut = any(s.size < s.due for s in self.segments)
        self.notes = [n for h in headers if h[0] == _PT_NOTE for n in self._notes(h[2], h[5])]
        for below, above in zip(self.segments, self.segments[1:], strict=False):
            if below.end > above.start:
                raise self._bad(f"two areas overlap at {above.start:#x}")

    def read(self, address: int, size: int) -> bytes:
        """As many bytes of memory as the dump has from an address on, at most `size`."""
        found = bytearray()
        while len(found) < size:
            part = self.part(address + len(found), size - len(found))
            if not part:
                break
            found += part
        return bytes(found)

    def part(self, address: int, size: int) -> bytes:
        """As `read`, but of the area alone that holds the address."""
        segment = self.at(address)
        if segment is None:
            return b""
        offset = address - segment.start
        begin = segment.at + offset
        return self._data[begin : begin + max(min(size, segment.size - offset), 0)]

    def word(self, address: int) -> int | None:
        data = self.read(address, 8)
        return int.from_bytes(data, "little") if len(data) == 8 else None

    def at(self, address: int) -> Segment | None:
        """The area that an address lies in."""
        low, high = 0, len(self.segments)
        while low < high:
            middle = (low + high) // 2
            if self.segments[middle].end <= address:
                low = middle + 1
            else:
                high = middle
        found = self.segments[low] if low < len(self.segments) else None
        return found if found and found.start <= address else None

    def _table(self) -> tuple[int, int]:
        """Where the program headers are, and how many."""
        head = self._data[: _EHDR.size]
        if head[:4] != b"\x7fELF":
            raise self._bad("not an ELF file", _WANTED)
        if len(head) < _EHDR.size:
            raise self._bad("cut off inside its ELF header")
        _, kind, machine, _, _, phoff, shoff, _, _, size, count, *_ = _EHDR.unpack(head)
        if (head[4], head[5]) != (2, 1) or machine != _EM_RISCV:
            bits = {1: "32-bit ", 2: "64-bit "}.get(head[4], "")
            order = "" if head[5] == 1 else "big-endian "
            if head[5] == 2:
                machine = int.from_bytes(head[18:20], "big")
            raise self._bad(f"{order}{bits}{_name(ENUM_E_MACHINE, machine, 'EM_')}", _WANTED)
        if kind != _ET_CORE:
            what = f"no core dump, but {_name(ENUM_E_TYPE, kind, 'ET_')}"
            raise self._bad(what, f"{_WANTED}; its program is named by --exe")
        if count == _PN_XNUM:
            section = self._data[shoff : shoff + _SHDR.size]
            if len(section) < _SHDR.size:
                raise self._bad("cut off: section 0, which counts the program headers, is missing")
            count = _SHDR.unpack(section)[7]
        if size != _PHDR.size or not count:
            raise self._bad(f"{count} program headers of {size} bytes")
        if phoff + count * _PHDR.size > self._length:
            raise self._bad(f"cut off inside its {count} program headers: nothing can be read")
        return phoff, count

    def _headers(self, at: int, count: int) -> Iterator[tuple[int, ...]]:
        return _PHDR.iter_unpack(self._data[at : at + count * _PHDR.size])

    def _segment(self, header: tuple[int, ...]) -> Segment:
        _, flags, at, start, _, due, length, _ = header
        if start + length > _TOP or at + due > _TOP or due > length:
            raise self._bad(f"the area at {start:#x} has {due:#x} of {length:#x} bytes at {at:#x}")
        return Segment(start, length, flags, at, min(due, max(self._length - at, 0)), due)

    def _notes(self, at: int, size: int) -> Iterator[Note]:
        """Those that are there as a whole."""
        end = min(at + size, self._length)
        while at + _NHDR.size <= end:
            owner, length, kind = _NHDR.unpack_from(self._data, at)
            name = at + _NHDR.size
            begin = name + (owner + 3 & -4)
            if begin + length > end:
                if at + size <= self._length:
                    raise self._bad(f"the note at {at:#x} is longer than its segment")
                return
            owned = bytes(self._data[name : name + owner]).rstrip(b"\0")
            yield Note(owned, kind, bytes(self._data[begin : begin + length]))
            at = begin + (length + 3 & -4)

    def _bad(self, what: str, hint: str = "") -> BadRecording:
        return BadRecording(f"{self.path}: {what}", hint)


def _bytes(path: Path) -> bytes | mmap.mmap:
    """A core is large and mostly holes: it is not copied, unless it is packed."""
    try:
        with path.open("rb") as file:
            if is_packed(file.read(8)):
                return unpacked(path, path.read_bytes())
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise BadRecording(f"{path} is empty", "the disk may have been full") from error
    except OSError as error:
        raise BadRecording(f"{path}: {error.strerror}") from error


def _name(names: Mapping[str, int], number: int, prefix: str) -> str:
    found = (name for name, value in names.items() if value == number)
    return next(found, f"{prefix}{number}")
