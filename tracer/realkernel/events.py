"""The events that the plugin wrote, read one by one. plugin/events.h has the same layouts.

The file may be packed by zstd, gzip or xz.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from shstk.schemas.errors import BadRecording
from shstk.tracer.packed import unpacked
from shstk.tracer.realkernel.table import BadTable, Table, parse

VERSION: Final = 1
_MAGIC: Final = b"shstkqev"
_PROLOGUE: Final = struct.Struct("<8s4I")
_HEAD: Final = struct.Struct("<BBHI3Q")


class Head(NamedTuple):
    """icount: the instructions that this hart has attempted in user mode."""

    hart: int
    icount: int
    task: int
    mm: int


class Ecall(NamedTuple):
    head: Head
    pc: int
    sp: int
    ssp: int
    nr: int
    args: tuple[int, ...]


class Cfi(NamedTuple):
    """accesses: to memory: 0, 1 (value) or 2 (old, then value). fault: 255 if there was none."""

    head: Head
    pc: int
    before: int
    after: int
    operand: int
    address: int
    value: int
    old: int
    word: int
    accesses: int
    fault: int


class Trap(NamedTuple):
    head: Head
    cause: int
    pc: int
    tval: int
    ssp: int
    sp: int
    t2: int


class User(NamedTuple):
    """A return to user mode. first: of this task. cause: why it was in the kernel."""

    head: Head
    first: bool
    pc: int
    a0: int
    sp: int
    ssp: int
    senvcfg: int
    cause: int
    seen: Mapping[str, bytes]


class Call(NamedTuple):
    """The entry of a watched function. seen: what was read there, by name; what could not be read
    is not in it."""

    head: Head
    name: str
    a: tuple[int, ...]
    seen: Mapping[str, bytes]


class Return(NamedTuple):
    head: Head
    name: str
    a0: int
    seen: Mapping[str, bytes]


class Access(NamedTuple):
    head: Head
    address: int
    store: bool
    data: bytes


class Switch(NamedTuple):
    """The hart goes from one task to the head's. state: of the one that it leaves."""

    head: Head
    left: int
    state: int


class End(NamedTuple):
    head: Head
    records: int
    slide: int


Event = Ecall | Cfi | Trap | User | Call | Return | Access | Switch | End

_ECALL: Final = struct.Struct("<10Q")
_CFI: Final = struct.Struct("<7QIBBxx")
_TRAP: Final = struct.Struct("<6Q")
_USER: Final = struct.Struct("<6Q")
_CALL: Final = struct.Struct("<8Q")
_RETURN: Final = struct.Struct("<Q")
_ACCESS: Final = struct.Struct("<QI4x")
_TWO: Final = struct.Struct("<2Q")
_LENGTH: Final = struct.Struct("<I")


class Events:
    """table: what the plugin was told; harts: of the machine; interface: of QEMU's plugins."""

    def __init__(self, path: Path) -> None:
        """Raises BadRecording."""
        self.path = path
        try:
            self._data = unpacked(path, path.read_bytes())
        except OSError as error:
            raise BadRecording(f"{path}: {error.strerror or error}") from error
        if len(self._data) < _PROLOGUE.size or not self._data.startswith(_MAGIC):
            raise BadRecording(
                f"{path} has no events of shstk's QEMU plugin", "see `shstk qemu-plugin --help`"
            )
        _, version, self.interface, self.harts, size = _PROLOGUE.unpack_from(self._data)
        if version != VERSION:
            raise BadRecording(
                f"{path} has version {version} of the events, this shstk reads {VERSION}",
                "record it again with the plugin that this shstk writes",
            )
        self._first = _PROLOGUE.size + size
        try:
            text = self._data[_PROLOGUE.size : self._first].decode()
            self.table: Table = parse(text)
        except (UnicodeDecodeError, BadTable) as error:
            raise BadRecording(f"{path}: its table is damaged: {error}") from error

    def __iter__(self) -> Iterator[Event]:
        """Until the end, or until the file ends in the middle. Raises BadRecording."""
        at, data = self._first, self._data
        try:
            while at + _HEAD.size <= len(data):
                record, hart, watch, size, icount, task, mm = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                if at + size > len(data):
                    return
                yield self._event(record, Head(hart, icount, task, mm), watch, at, at + size)
                at += size
        except (struct.error, IndexError) as error:
            raise BadRecording(f"{self.path} is damaged at byte {at}: {error}") from error

    def _event(self, record: int, head: Head, watch: int, at: int, end: int) -> Event:
        data = self._data
        if record == 1:
            pc, sp, ssp, nr, *args = _ECALL.unpack_from(data, at)
            return Ecall(head, pc, sp, ssp, nr, tuple(args))
        if record == 2:
            return Cfi(head, *_CFI.unpack_from(data, at))
        if record == 3:
            return Trap(head, *_TRAP.unpack_from(data, at))
        if record == 4:
            seen = self._seen(self.table.user, at + _USER.size, end)
            pc, a0, sp, ssp, senvcfg, cause = _USER.unpack_from(data, at)
            return User(head, bool(watch), pc, a0, sp, ssp, senvcfg, cause, seen)
        if record == 5:
            watched = self.table.watches[watch]
            seen = self._seen(watched.entry, at + _CALL.size, end)
            return Call(head, watched.symbol, _CALL.unpack_from(data, at), seen)
        if record == 6:
            watched = self.table.watches[watch]
            seen = self._seen(watched.result, at + _RETURN.size, end)
            return Return(head, watched.symbol, _RETURN.unpack_from(data, at)[0], seen)
        if record == 7:
            address, store = _ACCESS.unpack_from(data, at)
            return Access(head, address, bool(store), data[at + _ACCESS.size : end])
        if record == 8:
            return Switch(head, *_TWO.unpack_from(data, at))
        if record == 9:
            return End(head, *_TWO.unpack_from(data, at))
        raise BadRecording(f"{self.path} is damaged at byte {at}: there is no record {record}")

    def _seen(self, names: list[str], at: int, end: int) -> dict[str, bytes]:
        found = {}
        for name in names:
            (length,) = _LENGTH.unpack_from(self._data, at)
            at += _LENGTH.size
            if at + length > end:
                raise IndexError(f"{name} has {length} bytes")
            if length:
                found[name] = self._data[at : at + length]
            at += length
        return found
