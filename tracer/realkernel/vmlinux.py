"""Symbols and types of a kernel from its vmlinux or System.map, where the Image lacks them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from shstk.tracer.realkernel.btf import Btf, NoTypes
from shstk.tracer.realkernel.image import BadImage

_STRUCTS: Final = ("DW_TAG_structure_type", "DW_TAG_union_type")
_MASK: Final = 2**64 - 1


def system_map(path: Path) -> dict[str, int]:
    """Name -> address. Raises BadImage."""
    found: dict[str, int] = {}
    try:
        for line in path.read_text().splitlines():
            address, _, name = line.split(maxsplit=2)
            found.setdefault(name, int(address, 16) & _MASK)
    except (OSError, ValueError) as error:
        raise BadImage(f"{path} is not a System.map: {error}") from error
    return found


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """pyelftools lets many an exception of its own making through."""
    try:
        yield
    except (BadImage, NoTypes):
        raise
    except Exception as error:
        raise BadImage(f"{path} is not a vmlinux, or is damaged: {error}") from error


class Vmlinux:
    def __init__(self, path: Path) -> None:
        """Raises BadImage."""
        self.path = path
        with _reading(path):
            self._elf = ELFFile(path.open("rb"))

    def symbols(self) -> Mapping[str, int]:
        """Raises BadImage."""
        found: dict[str, int] = {}
        with _reading(self.path):
            section = self._elf.get_section_by_name(".symtab")
            if not isinstance(section, SymbolTableSection):
                raise BadImage(f"{self.path} is stripped", "give the vmlinux that the build left")
            for symbol in section.iter_symbols():
                found.setdefault(symbol.name, symbol["st_value"])
        return found

    def types(self) -> Btf | Dwarf:
        """Raises BadImage."""
        with _reading(self.path):
            section = self._elf.get_section_by_name(".BTF")
            with suppress(NoTypes):
                if section is not None:
                    return Btf(section.data())
            if not self._elf.has_dwarf_info():
                raise BadImage(f"{self.path} has neither BTF nor DWARF", "build it with debug info")
            return Dwarf(self.path, self._elf)


class Dwarf:
    """Members by the debug info. Each struct is taken from the first unit that defines it."""

    def __init__(self, path: Path, elf: ELFFile) -> None:
        self._path = path
        self._elf = elf
        self._structs: dict[str, DIE] = {}

    @cached_property
    def _units(self) -> Iterator[Any]:
        return iter(self._elf.get_dwarf_info().iter_CUs())

    def _struct(self, name: str) -> DIE | None:
        """Units are read until one has it: init/main.c, the first, has most."""
        while name not in self._structs:
            unit = next(self._units, None)
            if unit is None:
                return None
            for die in unit.get_top_DIE().iter_children():
                if die.tag in _STRUCTS and "DW_AT_byte_size" in die.attributes:
                    self._structs.setdefault(_name(die), die)
        return self._structs[name]

    def size(self, name: str) -> int | None:
        """Raises BadImage."""
        with _reading(self._path):
            die = self._struct(name)
            return None if die is None else int(die.attributes["DW_AT_byte_size"].value)

    def offset(self, path: str) -> int | None:
        """Raises BadImage."""
        with _reading(self._path):
            return self._offset(path)

    def _offset(self, path: str) -> int | None:
        name, *members = path.split(".")
        die, offset = self._struct(name), 0
        for member in members:
            found = self._member(die, member) if die is not None else None
            if found is None:
                return None
            die, offset = found[0], offset + found[1]
        return None if die is None else offset

    def _member(self, die: DIE, wanted: str) -> tuple[DIE | None, int] | None:
        """(the member's type if it is a struct, its offset)."""
        for member in die.iter_children():
            if member.tag != "DW_TAG_member":
                continue
            place = member.attributes.get("DW_AT_data_member_location")
            offset = int(place.value) if place else 0
            inner = self._bare(member)
            if _name(member) == wanted:
                return inner, offset
            if not _name(member) and inner is not None and (deep := self._member(inner, wanted)):
                return deep[0], offset + deep[1]
        return None

    def _bare(self, die: DIE) -> DIE | None:
        """The struct that something is of, without typedefs and qualifiers."""
        while "DW_AT_type" in die.attributes:
            die = die.get_DIE_from_attribute("DW_AT_type")
            if die.tag in _STRUCTS:
                declared = "DW_AT_declaration" in die.attributes
                return self._struct(_name(die)) if declared else die
            if die.tag == "DW_TAG_pointer_type":
                return None
        return None


def _name(die: DIE) -> str:
    name = die.attributes.get("DW_AT_name")
    return name.value.decode() if name else ""
