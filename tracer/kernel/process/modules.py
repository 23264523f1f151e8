"""Modules: the files that are mapped as code, and the module of an address."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shstk.schemas.errors import BadProgram
from shstk.schemas.uapi import PAGE
from shstk.tracer import elf
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm
    from shstk.tracer.kernel.mm.vma import MappedFile

_U64: Final = 2**64 - 1


class Modules:
    """Modules are numbered from 1 in the order of mapping. Each mapping has one `modules` row."""

    def __init__(self) -> None:
        self._count = 0
        self._areas: dict[int, list[tuple[int, int, int]]] = {}  # mm -> (start, end, module)

    def add(
        self,
        k: Kernel,
        mm: Mm,
        file: MappedFile,
        bias: int,
        areas: list[tuple[int, int]],
        build_id: str | None = None,
    ) -> None:
        """Add an image that exec maps. areas: (start, end) of its executable segments."""
        self._count += 1
        known = self._areas.setdefault(mm.id, [])
        known += [(start, end, self._count) for start, end in areas]
        k.rec.row(
            "modules",
            seq=k.seq(),
            tid=k.current.tid,
            mm=mm.id,
            module=self._count,
            path=file.path,
            input=file.input,
            bias=bias,
            build_id=build_id,
        )

    def add_mapping(
        self, k: Kernel, mm: Mm, start: int, end: int, file: MappedFile, offset: int
    ) -> None:
        """mmap with PROT_EXEC. In a file that is not ELF (a JIT's), addresses are file offsets."""
        address, build_id = offset, None
        with suppress(BadProgram):
            image = elf.parse(bytes(file.inode.contents()), file.path)
            build_id = image.build_id
            address = next(
                (s.vaddr & -PAGE for s in image.code if s.offset & -PAGE == offset), offset
            )
        self.add(k, mm, file, (start - address) & _U64, [(start, end)], build_id)

    def inherit(self, mm: Mm, parent: Mm) -> None:
        """fork: the child has its parent's modules."""
        self._areas[mm.id] = list(self._areas.get(parent.id, ()))

    def at(self, mm: int, pc: int) -> int | None:
        """The module that contains pc. The latest mapping wins."""
        for start, end, module in reversed(self._areas.get(mm, ())):
            if start <= pc < end:
                return module
        return None


MODULES: Final = Slot(Modules)


def module_at(k: Kernel, mm: int, pc: int) -> int | None:
    return MODULES.of(k).at(mm, pc)
