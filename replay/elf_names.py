"""The names in one ELF file: symbols, PLT entries, and the lines of its DWARF.

Damaged or unknown data yields no names: a run is judged even if its programs cannot be read.
"""

from __future__ import annotations

import io
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, TypeVar

T = TypeVar("T")

_SYMBOL: Final = struct.Struct("<IBBHQQ")  # Elf64_Sym
_RELA: Final = struct.Struct("<QQq")
_NOTYPE, _FUNC = 0, 2
_SHN_UNDEF: Final = 0
# psABI: .plt begins with a header of 32 bytes, then 16 for each slot of .rela.plt.
_PLT_HEADER: Final = 32
_PLT_ENTRY: Final = 16


class ElfNames:
    """Names by address. Addresses are ELF addresses: virtual addresses without the bias."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def symbol(self, address: int) -> tuple[str, int] | None:
        """The name and start of the function or label that an address lies in."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        name, start, size = self._symbols[at]
        return (name, start) if not size or address < start + size else None

    def line(self, address: int) -> tuple[str, int] | None:
        """The source file and line of an instruction."""
        for low, high, unit in self._units:
            if low <= address < high:
                rows = self._lines(unit)
                at = bisect_right(rows, address, key=_address) - 1
                if at >= 0 and rows[at][2]:
                    return rows[at][1], rows[at][2]
        return None

    def functions(self) -> list[tuple[str, int]]:
        """Every function or label: name and address, by address."""
        return [(name, start) for name, start, _ in self._symbols]

    def lines(self) -> Iterator[tuple[int, str, int]]:
        """Every row of the line tables: address, file, line."""
        for unit in dict.fromkeys(unit for _, _, unit in self._units):
            yield from (row for row in self._lines(unit) if row[2])

    @cached_property
    def _elf(self) -> Any:
        """None if it is not an ELF file."""
        from elftools.elf.elffile import ELFFile

        return _if_readable(lambda: ELFFile(io.BytesIO(self._data)), None)

    @cached_property
    def _symbols(self) -> list[tuple[str, int, int]]:
        """(name, start, size; 0: up to the next), by start; the best name for each start."""
        best: dict[int, tuple[bool, int, str]] = {}
        found: list[tuple[str, int, int, bool]] = []
        found = _if_readable(lambda: list(self._all_symbols()), found)
        for name, start, size, function in found:
            key = (function, size, name)
            best[start] = max(best.get(start, key), key, key=lambda k: (k[0], k[1]))
        return [(best[start][2], start, best[start][1]) for start in sorted(best)]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for _, start, _ in self._symbols]

    def _all_symbols(self) -> Iterator[tuple[str, int, int, bool]]:
        if self._elf is None:
            return
        code = [s["sh_addr"] for s in self._elf.iter_sections() if s["sh_flags"] & 4]
        for section in self._elf.iter_sections():
            if section["sh_type"] in ("SHT_SYMTAB", "SHT_DYNSYM"):
                strings = self._elf.get_section(section["sh_link"]).data()
                for name, info, _, where, value, size in _records(_SYMBOL, section.data()):
                    kind, text = info & 15, _text(strings, name)
                    local = text.startswith(("$", ".L")) or not text
                    if kind in (_NOTYPE, _FUNC) and where != _SHN_UNDEF and code and not local:
                        yield text, value, size, kind == _FUNC
            elif section.name == ".rela.plt":
                yield from self._plt(section)

    def _plt(self, relocations: Any) -> Iterator[tuple[str, int, int, bool]]:
        plt = self._elf.get_section_by_name(".plt")
        if plt is None:
            return
        symbols = self._elf.get_section(relocations["sh_link"])
        strings = self._elf.get_section(symbols["sh_link"]).data()
        names = [_text(strings, record[0]) for record in _records(_SYMBOL, symbols.data())]
        for i, (_, info, _) in enumerate(_records(_RELA, relocations.data())):
            start = plt["sh_addr"] + _PLT_HEADER + i * _PLT_ENTRY
            yield f"{names[info >> 32]}@plt", start, _PLT_ENTRY, True

    @cached_property
    def _dwarf(self) -> Any:
        if self._elf is None or not _if_readable(self._elf.has_dwarf_info, False):
            return None
        return _if_readable(self._elf.get_dwarf_info, None)

    @cached_property
    def _units(self) -> list[tuple[int, int, Any]]:
        """(first, past the last address, compile unit); unreadable units are left out."""
        if self._dwarf is None:
            return []
        found: list[tuple[int, int, Any]] = []
        units = _if_readable(self._dwarf.iter_CUs, iter(()))
        while unit := _if_readable(lambda: next(units, None), None):
            spans = _if_readable(lambda unit=unit: list(self._spans(unit)), [])
            found += [(low, high, unit) for low, high in spans]
        return found

    def _spans(self, unit: Any) -> Iterator[tuple[int, int]]:
        """The address ranges of a unit, from its top entry or else from its line table."""
        attributes = unit.get_top_DIE().attributes
        low, high = attributes.get("DW_AT_low_pc"), attributes.get("DW_AT_high_pc")
        if low and high:
            past = high.value if high.form == "DW_FORM_addr" else low.value + high.value
            yield low.value, past
        elif rows := self._lines(unit):
            yield rows[0][0], rows[-1][0]

    def _lines(self, unit: Any) -> list[tuple[int, str, int]]:
        """(address, file, line; 0 past the end of a sequence) of a unit, by address."""
        if unit.cu_offset not in self._tables:
            self._tables[unit.cu_offset] = _if_readable(lambda: self._decoded(unit), [])
        return self._tables[unit.cu_offset]

    @cached_property
    def _tables(self) -> dict[int, list[tuple[int, str, int]]]:
        return {}

    def _decoded(self, unit: Any) -> list[tuple[int, str, int]]:
        program = self._dwarf.line_program_for_CU(unit)
        if program is None:
            return []
        files = _file_names(program.header)
        rows: dict[int, tuple[int, str, int]] = {}
        line = 0
        for entry in program.get_entries():
            state = entry.state
            if state is None or (state.end_sequence and state.address in rows):
                continue
            # line 0 marks compiler-generated code; the preceding line is more useful
            line = 0 if state.end_sequence else state.line or line
            rows[state.address] = (state.address, files.get(state.file, "?"), line)
        return [rows[address] for address in sorted(rows)]


def _file_names(header: Any) -> dict[int, str]:
    """Line programs number files and directories from 0 since DWARF 5, from 1 before; directory 0
    is the compilation directory."""
    five = header["version"] >= 5
    directories = [
        d if isinstance(d, bytes) else d["DW_LNCT_path"] for d in header["include_directory"]
    ]
    names = {}
    for i, entry in enumerate(header["file_entry"], start=0 if five else 1):
        parts = [entry.name.decode(errors="replace")]
        if entry.dir_index:
            directory = directories[entry.dir_index - (0 if five else 1)]
            parts.insert(0, directory.decode(errors="replace"))
        names[i] = "/".join(parts)
    return names


def _records(shape: struct.Struct, data: bytes) -> Iterator[tuple[int, ...]]:
    return shape.iter_unpack(data[: len(data) // shape.size * shape.size])


def _text(strings: bytes, at: int) -> str:
    return strings[at : strings.find(b"\0", at)].decode(errors="replace")


def _address(row: tuple[int, str, int]) -> int:
    return row[0]


def _if_readable(read: Callable[[], T], otherwise: T) -> T:
    """On a damaged file, pyelftools may raise an exception of any type."""
    try:
        return read()
    except Exception:
        return otherwise
