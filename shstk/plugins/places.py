"""Resolve code addresses while the guest runs: file, symbol and line, from `on_module`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from shstk.plugin import Module
from shstk.replay.elf_names import ElfNames
from shstk.replay.symbols import Place
from shstk.schemas.errors import BadProgram
from shstk.tracer import elf


@dataclass(frozen=True)
class Image:
    """A module's file. Addresses in `names` are ELF addresses: address minus bias."""

    module: Module
    names: ElfNames

    @property
    def bias(self) -> int:
        return self.module.bias

    @cached_property
    def span(self) -> tuple[int, int]:
        """The first address in the guest and the one past the last, from its segments."""
        with suppress(BadProgram):
            image = elf.parse(self.module.data, self.module.path)
            return self.bias + image.low, self.bias + image.high
        return self.bias, self.bias


class Places:
    """Add every module. Modules with the same file and address share an image."""

    def __init__(self) -> None:
        self.images: dict[int, Image] = {}  # by modules.module
        self._same: dict[tuple[str, int, str | None], Image] = {}

    def add(self, module: Module) -> None:
        key = (module.path, module.bias, module.build_id)
        self.images[module.module] = self._same.setdefault(
            key, Image(module, ElfNames(module.data))
        )

    def at(self, module: int | None, pc: int) -> Place:
        """module: modules.module; None for code without a file."""
        if module is None:
            return Place("", None, pc)
        image = self.images[module]
        own = pc - image.bias
        found = image.names.symbol(own)
        file, line = image.names.line(own) or (None, None)
        if found is None:
            return Place(image.module.path, None, own, file, line)
        return Place(image.module.path, found[0], own - found[1], file, line)

    def function(self, module: int | None, pc: int) -> tuple[str, str | None, int]:
        """(file, symbol, its address); without a symbol, the address is pc."""
        if module is None:
            return "", None, pc
        image = self.images[module]
        if found := image.names.symbol(pc - image.bias):
            return image.module.path, found[0], found[1] + image.bias
        return image.module.path, None, pc
