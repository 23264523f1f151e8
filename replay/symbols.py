"""Resolve addresses to module, symbol, source file and line, from the run's own ELF files."""

from __future__ import annotations

import os.path
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.regions import Region, Regions
from shstk.replay.elf_names import ElfNames
from shstk.schemas.errors import BadRun
from shstk.schemas.vdso import function_at

if TYPE_CHECKING:
    from shstk.replay.run import Run

_VDSO: Final = "[vdso]"


@dataclass(frozen=True, slots=True)
class Place:
    """An address in words.

    module: the file's path in the guest, [vdso], [stack], [heap], [shadow stack], or [anonymous].
    offset: bytes from the symbol; without one, the ELF address, or bytes from the start of the
    area. line: None if the file has no line table.
    """

    module: str
    symbol: str | None
    offset: int
    file: str | None = None
    line: int | None = None

    @property
    def name(self) -> str:
        """`symbol+0x1a`, or `module+0x1a` where there is no symbol."""
        base = self.symbol or os.path.basename(self.module)
        return f"{base}+{self.offset:#x}" if self.offset else base

    @property
    def source(self) -> str | None:
        """`file:line`, if known."""
        return f"{self.file}:{self.line}" if self.file else None

    def __str__(self) -> str:
        return f"{self.name} ({self.source})" if self.file else self.name


class Symbols:
    """The names of a run's addresses. Files are read on first use; damaged files yield no names."""

    def __init__(self, run: Run, regions: Regions | None = None) -> None:
        self._run = run
        self._given = regions
        self._elves: dict[int, ElfNames | None] = {}
        self._known: dict[tuple[Region, int], Place] = {}

    @cached_property
    def regions(self) -> Regions:
        return self._given or Regions.of(self._run)

    def at(self, mm: int | None, address: int, seq: int | None = None) -> Place | None:
        """The place of an address in the address space mm (None: the first that maps it) at seq
        (None: the last time anything was mapped there); None if nothing was mapped."""
        region = self._region(mm, address, seq)
        if region is None:
            return None
        key = (region, address)
        if key not in self._known:
            self._known[key] = self._with_line(region, address, self._place(region, address))
        return self._known[key]

    def _named(self, mm: int | None, address: int, seq: int | None = None) -> Place | None:
        """As `at`, but without file and line: reading a file's lines takes seconds."""
        region = self._region(mm, address, seq)
        return self._place(region, address) if region else None

    def name(self, mm: int | None, address: int, seq: int | None = None) -> str:
        """`symbol+0x1a`, `module+0x1a`, or the bare address in hex."""
        place = self._named(mm, address, seq)
        return place.name if place else hex(address)

    def function(self, mm: int | None, address: int, seq: int | None = None) -> str:
        """The symbol, or else the result of `name`."""
        place = self._named(mm, address, seq)
        return (place.symbol or place.name) if place else hex(address)

    def holder(self, mm: int | None, address: int, seq: int | None = None) -> str:
        """The symbol, or else the name of the file: what stays the same when a program is built
        anew. Empty if nothing was mapped there."""
        place = self._named(mm, address, seq)
        return (place.symbol or os.path.basename(place.module)) if place else ""

    def names(self, addresses: pl.Series, mms: pl.Series | None = None) -> pl.Series:
        """`name` of each address (u64; null stays null), each in its own address space."""
        return self._each(self.name, addresses, mms)

    def functions(self, addresses: pl.Series, mms: pl.Series | None = None) -> pl.Series:
        """`function` of each address, as `names`."""
        return self._each(self.function, addresses, mms)

    def places(self, addresses: pl.Series, mms: pl.Series | None = None) -> pl.Series:
        """As `names`, but null where nothing is mapped."""

        def told(mm: int | None, address: int) -> str | None:
            place = self._named(mm, address)
            return place.name if place else None

        return self._each(told, addresses, mms)

    def _each(
        self,
        tell: Callable[[int | None, int], str | None],
        addresses: pl.Series,
        mms: pl.Series | None,
    ) -> pl.Series:
        keys = pl.DataFrame(
            {"mm": mms if mms is not None else [None] * len(addresses), "addr": addresses},
            schema={"mm": pl.UInt32, "addr": pl.UInt64},
        )
        distinct = keys.unique(maintain_order=True)
        told = [None if a is None else tell(mm, a) for mm, a in distinct.iter_rows()]
        named = distinct.with_columns(pl.Series("name", told, pl.String))
        return keys.join(
            named, on=["mm", "addr"], how="left", nulls_equal=True, maintain_order="left"
        )["name"]

    def _region(self, mm: int | None, address: int, seq: int | None) -> Region | None:
        if mm is not None:
            return self.regions.at(mm, address, seq)
        spaces = self._spaces
        found = (self.regions.at(each, address, seq) for each in spaces)
        return next((region for region in found if region), None)

    @cached_property
    def _spaces(self) -> list[int | None]:
        return list(dict.fromkeys(region.mm for region in self.regions.all))

    def _place(self, region: Region, address: int) -> Place:
        if region.name == _VDSO and region.input is None:
            symbol, start = function_at(address - region.start) or (None, 0)
            return Place(_VDSO, symbol, address - region.start - start)
        if region.input is None:
            offset = address - region.start + region.offset  # of a file that is not known, or 0
            return Place(region.name or "[anonymous]", None, offset)
        own = address - self._bias(region)
        elf = self._elf(region.input)
        found = elf.symbol(own) if elf else None
        if region.name == _VDSO and elf and not elf.functions():
            found = function_at(own)  # the model's has no symbols
        symbol, start = found or (None, 0)
        return Place(region.name, symbol, own - start)

    def _with_line(self, region: Region, address: int, place: Place) -> Place:
        elf = self._elf(region.input) if region.input is not None else None
        found = elf.line(address - self._bias(region)) if elf else None
        return replace(place, file=found[0], line=found[1]) if found else place

    def _elf(self, input: int) -> ElfNames | None:
        if input not in self._elves:
            self._elves[input] = self._read(input)
        return self._elves[input]

    def _read(self, input: int) -> ElfNames | None:
        hashes = dict(self._run.table("inputs").select("input", "sha256").iter_rows())
        try:
            return ElfNames(self._run.file(hashes[input]))
        except (KeyError, BadRun):
            return None  # a run in memory, or a listing without its files

    @cached_property
    def _biases(self) -> dict[tuple[int | None, int], list[tuple[int, int]]]:
        """(mm, input) → (seq, bias) of the modules rows, in order."""
        found: dict[tuple[int | None, int], list[tuple[int, int]]] = {}
        rows = self._run.table("modules").select("mm", "input", "seq", "bias")
        for mm, input, seq, bias in rows.iter_rows():
            found.setdefault((mm, input), []).append((seq, bias))
        return found

    @cached_property
    def _parents(self) -> dict[int, int | None]:
        rows = self._run.table("mms").select("mm", "from_mm", "cause")
        return {mm: parent for mm, parent, cause in rows.iter_rows() if cause == "fork"}

    def _bias(self, region: Region) -> int:
        """The bias in the modules row written when the region was mapped, in its mm or a parent."""
        assert region.input is not None
        mm = region.mm
        while mm is not None:
            if rows := self._biases.get((mm, region.input)):
                at = bisect_right(rows, (region.made_seq,))
                return rows[min(at, len(rows) - 1)][1]
            mm = self._parents.get(mm)
        return region.start - region.offset
