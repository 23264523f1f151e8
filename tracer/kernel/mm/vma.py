"""An area of an address space, and the file that it shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PAGE, PROT_WRITE

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.inode import Regular

STACK_GUARD_GAP: Final = 256 * PAGE  # kept below a stack that grows


@dataclass(frozen=True)
class MappedFile:
    """The file of an area. `input` is inputs.input.

    data: the contents, for a private mapping. inode: the file itself, for a shared mapping.
    writable: whether a shared mapping may write to it.
    """

    path: str
    data: bytes
    input: int | None = None
    inode: Regular | None = None
    writable: bool = False

    @property
    def size(self) -> int:
        return len(self.data) if self.inode is None else self.inode.size


@dataclass(frozen=True)
class Vma:
    start: int
    end: int
    prot: int
    shadow_stack: bool = False
    shared: int | None = None  # MAP_SHARED: id of the shared memory, equal in all its mappings
    grows_down: bool = False
    noreserve: bool = False
    advice: frozenset[str] = frozenset()  # flags that madvise set, by their names in smaps
    accounted: bool = False  # VM_ACCOUNT: the commit limit counts its pages
    name: str = ""  # "[heap]", "[stack]", "[vdso]"
    file: MappedFile | None = None
    offset: int = 0  # in the file, or in the shared memory

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def backed(self) -> int:
        """The end of the last page that contains a byte of the file; `end` without a file."""
        if self.file is None:
            return self.end
        rest = -(-self.file.size // PAGE) * PAGE - self.offset
        return self.start + min(max(rest, 0), self.length)

    @property
    def gap_start(self) -> int:
        """vm_start_gap: the start of the gap that must stay free below this area."""
        if self.shadow_stack:
            return max(self.start - PAGE, 0)
        return max(self.start - STACK_GUARD_GAP, 0) if self.grows_down else self.start

    @property
    def is_data(self) -> bool:
        """is_data_mapping: private, writable, not a stack of either kind."""
        return (
            bool(self.prot & PROT_WRITE)
            and self.shared is None
            and not self.grows_down
            and not self.shadow_stack
        )

    def part(self, start: int, end: int) -> Vma:
        return replace(self, start=start, end=end, offset=self.offset_at(start))

    def offset_at(self, addr: int) -> int:
        backed = self.file is not None or self.shared is not None
        return self.offset + addr - self.start if backed else 0

    def continues(self, below: Vma) -> bool:
        """Whether this area can be merged with the one below it."""
        return self == replace(
            below, start=self.start, end=self.end, offset=below.offset_at(self.start)
        )
