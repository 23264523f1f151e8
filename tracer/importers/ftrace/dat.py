"""trace.dat of trace-cmd, versions 6 and 7: trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5).

Both hold the formats of the events as tracefs prints them, and the pages of each hart's ring buffer
as the kernel has them. Version 6 has them one after another, version 7 in sections that options
point to, and which may be compressed.
"""

from __future__ import annotations

import heapq
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from shstk.schemas.errors import BadRecording
from shstk.tracer.importers.ftrace.event import LOST, Event, named

MAGIC: Final = b"\x17\x08\x44tracing"
_SECTION: Final = struct.Struct("<HHIQ")  # id, flags, description, size
_COMPRESSED: Final = 1
# Options of version 7.
_DONE, _BUFFER, _UNAME, _CPUCOUNT, _EVENT_FORMATS, _FTRACE_FORMATS = 0, 3, 5, 8, 18, 17
# struct buffer_data_page of the kernel.
_PAGE_HEAD: Final = struct.Struct("<QQ")  # time stamp, commit
_COMMIT: Final = (1 << 27) - 1
_MISSED: Final = 1 << 31
_TIME_EXTEND, _TIME_STAMP, _PADDING = 30, 31, 29
_TIME_BITS: Final = 27
_FIELD: Final = re.compile(
    r"\tfield:(?P<type>.*?)\s*(?P<name>\w+)(?P<array>\[\w*\])?;\toffset:(?P<offset>\d{1,9});"
    r"\tsize:(?P<size>\d{1,9});\tsigned:(?P<signed>[01]);"
)
_NAME: Final = re.compile(r"name: (\S+)\nID: (\d{1,9})\n")
_LETTERS: Final = "RSDTtXZPI"  # of task states, by bit
# Fields that are printed under another name.
_PRINTED: Final = {
    "print": (("buf", "text"),),
    "sched_process_fork": (("parent_pid", "pid"),),
}
BIGGEST: Final = 1 << 30  # bytes of a section, and of all events


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    offset: int
    size: int
    signed: bool
    kind: str  # number, text, dynamic (its place is in the field), or array


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    fields: tuple[_Field, ...]


@dataclass
class Trace:
    """A file that was opened. uname: as the recorder told it; harts: how many it found."""

    where: str
    formats: dict[int, _Format] = field(default_factory=dict)
    pages: list[tuple[int, bytes]] = field(default_factory=list)  # (hart, its ring buffer's pages)
    page_size: int = 4096
    uname: str = ""
    harts: int = 0
    left: int = BIGGEST  # bytes of events that it may have besides

    def add(self, hart: int, pages: bytes) -> None:
        """Harts may claim the same pages over and over."""
        self.left -= len(pages)
        if self.left < 0:
            raise BadRecording(f"{self.where}: it claims too many bytes of events")
        self.pages.append((hart, pages))

    def events(self) -> Iterator[Event]:
        """All harts' events, in the order of their times."""
        streams = (self._of(hart, data) for hart, data in self.pages)
        for _, _, event in heapq.merge(*streams, key=lambda one: one[:2]):
            yield event

    def _of(self, hart: int, data: bytes) -> Iterator[tuple[int, int, Event]]:
        for start in range(0, len(data), self.page_size):
            page = data[start : start + self.page_size]
            if len(page) < _PAGE_HEAD.size:
                return
            time, commit = _PAGE_HEAD.unpack_from(page)
            if commit & _MISSED:
                yield time, hart, Event(0, hart, LOST)
            end = min(_PAGE_HEAD.size + (commit & _COMMIT), len(page))
            for at, record in _records(page, time, end):
                if event := self._event(hart, record):
                    if not event.whole:
                        raise BadRecording(f"{self.where} is damaged: a {event.name} lacks fields")
                    yield at, hart, event

    def _event(self, hart: int, record: bytes) -> Event | None:
        if len(record) < 8:
            return None
        number, _, _, pid = struct.unpack_from("<HBBi", record)
        known = self.formats.get(number)
        if known is None:
            return None
        values: dict[str, int | str] = {}
        args: tuple[int, ...] = ()
        for one in known.fields:
            raw = record[one.offset : one.offset + one.size]
            if len(raw) < one.size:
                continue
            if one.kind == "number":
                values[one.name] = int.from_bytes(raw, "little", signed=one.signed)
            elif one.kind == "array" and one.size % 8 == 0:
                args = struct.unpack(f"<{one.size // 8}Q", raw)
            elif one.kind == "dynamic":
                place = int.from_bytes(raw, "little")
                held = record[place & 0xFFFF : (place & 0xFFFF) + (place >> 16)]
                values[one.name] = _text(held)
            elif one.kind == "text":
                values[one.name] = _text(record[one.offset :] if not one.size else raw)
        return _as_printed(pid, hart, known.name, values, args)


def _records(page: bytes, time: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The records of a page of the ring buffer (ring_buffer.h), with their times."""
    at = _PAGE_HEAD.size
    while at + 4 <= end:
        head = int.from_bytes(page[at : at + 4], "little")
        kind, delta = head & 31, head >> 5
        at += 4
        if kind in (_TIME_EXTEND, _TIME_STAMP):
            high = int.from_bytes(page[at : at + 4], "little")
            whole = (high << _TIME_BITS) + delta
            time = time + whole if kind == _TIME_EXTEND else whole
            at += 4
            continue
        if kind == _PADDING and not delta:
            return
        if kind in (0, _PADDING):
            length = int.from_bytes(page[at : at + 4], "little")
            body, at = page[at + 4 : at + length], at + max(length, 4)
        else:
            body, at = page[at : at + kind * 4], at + kind * 4
        if kind != _PADDING:
            time += delta
            if at <= end:
                yield time, body
        at = (at + 3) // 4 * 4


def _as_printed(
    pid: int, hart: int, name: str, values: dict[str, int | str], args: tuple[int, ...]
) -> Event:
    """What differs between a record's fields and their text."""
    state = values.get("prev_state")
    if isinstance(state, int):
        values["prev_state"] = "".join(
            letter for bit, letter in enumerate(_LETTERS[1:]) if state >> bit & 1
        ) or ("R+" if state else "R")
    for field_name, printed in _PRINTED.get(name, ()):
        if field_name in values:
            values[printed] = values[field_name]
    return Event(pid, hart, named(name), values, args)


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].decode("utf-8", "replace")


def _format(text: str) -> tuple[int, _Format] | None:
    """An event's `format` file."""
    head = _NAME.search(text)
    if head is None:
        return None
    fields = []
    for found in _FIELD.finditer(text):
        size, kind = int(found["size"]), "number"
        if "__data_loc" in found["type"]:
            kind = "dynamic"
        elif found["array"]:
            kind = "text" if "char" in found["type"] else "array"
        elif size not in (1, 2, 4, 8):
            continue
        signed = found["signed"] == "1"
        fields.append(_Field(found["name"], int(found["offset"]), size, signed, kind))
    return int(head[2]), _Format(head[1], tuple(fields))


class _Reader:
    """Reads a byte string from the front. Raises BadRecording where it ends too early."""

    def __init__(self, data: bytes, where: str, at: int = 0) -> None:
        self._data = data
        self._where = where
        self.at = at

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._data) - self.at:
            raise BadRecording(
                f"{self._where}: truncated at byte {self.at:#x}, which asks for {size} more"
            )
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def string(self) -> str:
        end = self._data.find(b"\0", self.at)
        if end < 0:
            raise BadRecording(
                f"{self._where}: truncated at byte {self.at:#x}: text without an end"
            )
        found = self.take(end - self.at)
        self.at += 1
        return found.decode("utf-8", "replace")

    @property
    def left(self) -> int:
        return len(self._data) - self.at


def read(data: bytes, where: str, most: int = BIGGEST) -> Trace:
    """Raises BadRecording. where: the file's name. most: bytes of events that it may have."""
    reader = _Reader(data, where, len(MAGIC))
    version, big, long = reader.string(), reader.number(1), reader.number(1)
    if big or long != 8:
        raise BadRecording(f"{where} comes from a machine that is not a 64-bit little-endian one")
    trace = Trace(where, page_size=reader.number(4), left=most)
    if not 256 <= trace.page_size <= 1 << 20:
        raise BadRecording(f"{where}: a page of {trace.page_size} bytes")
    readers = {"6": _version_6, "7": _version_7}
    if version not in readers:
        raise BadRecording(f"{where} has version {version!r}, not 6 or 7")
    readers[version](trace, reader, data, where)
    return trace


def _header_page(reader: _Reader) -> None:
    for _ in ("header_page", "header_event"):
        reader.string()
        reader.take(reader.number(8))


def _formats(trace: Trace, reader: _Reader, *, systems: bool) -> None:
    for _ in range(reader.number(4) if systems else 1):
        if systems:
            reader.string()
        for _ in range(reader.number(4)):
            text = reader.take(reader.number(8)).decode("utf-8", "replace")
            if found := _format(text):
                trace.formats[found[0]] = found[1]


def _version_6(trace: Trace, reader: _Reader, data: bytes, where: str) -> None:
    _header_page(reader)
    _formats(trace, reader, systems=False)
    _formats(trace, reader, systems=True)
    reader.take(reader.number(4))  # kallsyms
    reader.take(reader.number(4))  # formats of trace_printk
    reader.take(reader.number(8))  # command lines
    trace.harts = reader.number(4)
    kind = reader.take(10)
    if kind.startswith(b"options"):
        while option := reader.number(2):
            _option(trace, option, reader.take(reader.number(4)))
        kind = reader.take(10)
    if not kind.startswith(b"flyrecord"):
        raise BadRecording(f"{where} has no events in the kernel's own format", _HOW)
    for hart in range(trace.harts):
        offset, size = reader.number(8), reader.number(8)
        trace.add(hart, _Reader(data, where, min(offset, len(data))).take(size))


_HOW: Final = "import the output of `trace-cmd report` instead"


def _option(trace: Trace, option: int, value: bytes) -> None:
    if option == _UNAME:
        trace.uname = _text(value)
    elif option == _CPUCOUNT and len(value) == 4:
        trace.harts = int.from_bytes(value, "little")


def _version_7(trace: Trace, reader: _Reader, data: bytes, where: str) -> None:
    algorithm = reader.string()
    reader.string()
    inflate = _INFLATE.get(algorithm)
    offset = reader.number(8)
    seen: set[int] = set()
    buffers = []
    while offset and offset not in seen:
        seen.add(offset)
        options = _section(data, offset, where, algorithm, inflate)
        offset = 0
        while options.left >= 6:
            option, value = options.number(2), options.take(options.number(4))
            held = _Reader(value, where)
            if option == _DONE:
                offset = held.number(8)
                break
            if option in (_FTRACE_FORMATS, _EVENT_FORMATS):
                found = _section(data, held.number(8), where, algorithm, inflate)
                _formats(trace, found, systems=option == _EVENT_FORMATS)
            elif option == _BUFFER:
                buffers.append(held)
            else:
                _option(trace, option, value)
    for buffer in buffers:
        _buffer(trace, buffer, data, where, algorithm, inflate)


_Inflate = Callable[[bytes, int], bytes]


def _buffer(
    trace: Trace,
    option: _Reader,
    data: bytes,
    where: str,
    algorithm: str,
    inflate: _Inflate | None,
) -> None:
    """One instance's ring buffers; the harts' places are offsets in the file, or, where they are
    compressed, in what the chunks before them make."""
    section = option.number(8)
    if option.string():
        return  # not the top instance
    option.string()  # the clock
    trace.page_size = option.number(4)
    flags = _SECTION.unpack_from(_Reader(data, where, min(section, len(data))).take(16))[1]
    for _ in range(option.number(4)):
        hart, offset, size = option.number(4), option.number(8), option.number(8)
        place = _Reader(data, where, min(offset, len(data)))
        pages = place.take(size)
        if flags & _COMPRESSED and size:
            chunks = _Reader(pages, where)
            parts = [_chunk(chunks, where, algorithm, inflate) for _ in range(chunks.number(4))]
            pages = b"".join(parts)
        trace.add(hart, pages)
    trace.harts = max(trace.harts, len(trace.pages))


def _section(
    data: bytes, offset: int, where: str, algorithm: str, inflate: _Inflate | None
) -> _Reader:
    reader = _Reader(data, where, min(offset, len(data)))
    _, flags, _, size = _SECTION.unpack(reader.take(_SECTION.size))
    if not flags & _COMPRESSED:
        return _Reader(reader.take(size), where)
    return _Reader(_chunk(reader, where, algorithm, inflate), where)


def _chunk(reader: _Reader, where: str, algorithm: str, inflate: _Inflate | None) -> bytes:
    packed, size = reader.number(4), reader.number(4)
    if inflate is None:
        raise BadRecording(
            f"{where} is compressed with {algorithm}, which is not known here",
            "convert it: trace-cmd convert --compression none -i trace.dat -o plain.dat",
        )
    if size > BIGGEST:
        raise BadRecording(f"{where}: a section of {size} bytes")
    return inflate(reader.take(packed), size)


def _zlib(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size)
    except zlib.error as error:
        raise BadRecording(f"compressed data is damaged: {error}") from None


def _zstd(data: bytes, size: int) -> bytes:
    import pyarrow as pa

    try:
        return bytes(pa.Codec("zstd").decompress(data, decompressed_size=size, asbytes=True))
    except (OSError, pa.ArrowException) as error:
        raise BadRecording(f"compressed data is damaged: {error}") from None


_INFLATE: Final[dict[str, _Inflate]] = {
    "none": lambda data, size: data[:size],
    "zlib": _zlib,
    "zstd": _zstd,
}
