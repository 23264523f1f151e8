"""An area of an address space, and the file that it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import PAGE, PROT_EXEC, PROT_READ, PROT_WRITE
from shstk.tracer.kernel.mm.layout import STACK_GUARD_GAP

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.inode import Regular

LOCKED: Final = frozenset({"lo", "lf"})  # VM_LOCKED_MASK
STICKY: Final = frozenset({"gu"})  # VM_STICKY: of both areas that are merged
_PERM_SS: Final = 8
_PERM_SHARED: Final = 16


class MappedFile(NamedTuple):
    """The file of an area, or the shared memory. `input` is inputs.input.

    writable: whether a shared mapping may write to it.
    """

    path: str
    inode: Regular
    input: int | None = None
    writable: bool = False


class Vma(NamedTuple):
    start: int
    end: int
    prot: int
    shadow_stack: bool = False
    shared: bool = False
    grows_down: bool = False
    noreserve: bool = False
    flags: frozenset[str] = frozenset()  # other VM_* flags, by their names in smaps
    accounted: bool = False  # VM_ACCOUNT: the commit limit counts its pages
    name: str = ""  # "[vdso]"
    file: MappedFile | None = None
    offset: int = 0  # in the file

    @property
    def length(self) -> int:
        return self.end - self.start

    @property
    def backed(self) -> int:
        """The end of the last page that contains a byte of the file; `end` without a file."""
        if self.file is None:
            return self.end
        rest = -(-self.file.inode.size // PAGE) * PAGE - self.offset
        return self.start + min(max(rest, 0), self.length)

    @property
    def gap_start(self) -> int:
        """vm_start_gap: the start of the gap that must stay free below this area."""
        if self.shadow_stack:
            return max(self.start - PAGE, 0)
        return max(self.start - STACK_GUARD_GAP, 0) if self.grows_down else self.start

    @property
    def is_stack(self) -> bool:
        return self.grows_down or self.shadow_stack

    @property
    def is_exec(self) -> bool:
        """is_exec_mapping."""
        return self.prot & (PROT_EXEC | PROT_WRITE) == PROT_EXEC and not self.grows_down

    @property
    def is_data(self) -> bool:
        """is_data_mapping: private, writable, not a stack of either kind."""
        return bool(self.prot & PROT_WRITE) and not self.shared and not self.is_stack

    def part(self, start: int, end: int) -> Vma:
        if start == self.start and end == self.end:
            return self
        return Vma(start, end, *self[2:11], self.offset_at(start))

    def joined(self, above: Vma) -> Vma:
        """Both as one area, where `above` continues this one."""
        return Vma(self.start, above.end, *self[2:7], self.flags | above.flags, *self[8:])

    def offset_at(self, addr: int) -> int:
        return self.offset + addr - self.start if self.file is not None else 0

    def continues(self, below: Vma) -> bool:
        """Whether this area can be merged with the one below it."""
        return (
            self[2:7] == below[2:7]
            and self[8:11] == below[8:11]
            and self.offset == below.offset_at(self.start)
            and self.flags - STICKY == below.flags - STICKY
        )


def vm_prot(prot: int) -> int:
    """arch_calc_vm_prot_bits: PROT_WRITE brings PROT_READ."""
    prot &= PROT_READ | PROT_WRITE | PROT_EXEC
    return prot | PROT_READ if prot & PROT_WRITE else prot


def core_perm(vma: Vma) -> int:
    """The executor's permissions."""
    return vma.prot | _PERM_SS * vma.shadow_stack | _PERM_SHARED * vma.shared
