"""The areas of an address space in a sorted list, which splits and merges them and finds gaps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PAGE

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

    def part(self, start: int, end: int) -> Vma:
        return replace(self, start=start, end=end, offset=self._offset_at(start))

    def _offset_at(self, addr: int) -> int:
        backed = self.file is not None or self.shared is not None
        return self.offset + addr - self.start if backed else 0

    def continues(self, below: Vma) -> bool:
        """Whether this area can be merged with the one below it."""
        return self == replace(
            below, start=self.start, end=self.end, offset=below._offset_at(self.start)
        )


class VmaList:
    """A sorted list without overlaps. Neighbours that can be merged are merged."""

    def __init__(self, vmas: list[Vma] | None = None) -> None:
        self._vmas = vmas or []
        self._starts = [v.start for v in self._vmas]

    def __iter__(self) -> Iterator[Vma]:
        return iter(self._vmas)

    def __len__(self) -> int:
        return len(self._vmas)

    def copy(self) -> VmaList:
        return VmaList(list(self._vmas))

    def find(self, addr: int) -> Vma | None:
        """The area that covers addr."""
        at = bisect_right(self._starts, addr) - 1
        return self._vmas[at] if at >= 0 and addr < self._vmas[at].end else None

    def touching(self, start: int, end: int) -> list[Vma]:
        """The areas with a byte in [start, end)."""
        low = max(bisect_right(self._starts, start) - 1, 0)
        high = bisect_right(self._starts, end - 1)
        return [v for v in self._vmas[low:high] if v.end > start]

    def after(self, addr: int) -> Vma | None:
        """The first area that starts at addr or above."""
        at = bisect_right(self._starts, addr - 1)
        return self._vmas[at] if at < len(self._vmas) else None

    def before(self, addr: int) -> Vma | None:
        """The last area that ends at addr or below."""
        at = bisect_right(self._starts, addr - 1) - 1
        while at >= 0 and self._vmas[at].end > addr:
            at -= 1
        return self._vmas[at] if at >= 0 else None

    def remove(self, start: int, end: int) -> list[Vma]:
        """Cut out [start, end) and return the parts cut."""
        hit = self.touching(start, end)
        if not hit:
            return []
        keep = [hit[0].part(hit[0].start, start)] if hit[0].start < start else []
        keep += [hit[-1].part(end, hit[-1].end)] if hit[-1].end > end else []
        self._replace(hit, keep)
        return [v.part(max(v.start, start), min(v.end, end)) for v in hit]

    def add(self, vma: Vma) -> None:
        """Add an area in a free range, and merge it with its neighbours."""
        old = []
        below, above = self.before(vma.start), self.after(vma.end)
        if below and below.end == vma.start and vma.continues(below):
            old.append(below)
            vma = replace(below, end=vma.end)
        if above and above.start == vma.end and above.continues(vma):
            old.append(above)
            vma = replace(vma, end=above.end)
        self._replace(old, [vma])

    def covers(self, start: int, end: int) -> bool:
        """Whether all of [start, end) is mapped."""
        return sum(min(v.end, end) - max(v.start, start) for v in self.touching(start, end)) == (
            end - start
        )

    def fits(self, start: int, length: int) -> bool:
        """Whether a hint is usable: the range is free and not in the gap below the next area."""
        if self.touching(start, start + length):
            return False
        above = self.after(start + length)
        return above is None or start + length <= above.gap_start

    def highest_gap(self, length: int, below: int, low: int, high: int) -> int | None:
        """Start of the highest free range of `length` bytes in [low, high).

        below: bytes that must also be free below it (the guard of a shadow stack).
        """
        top = high
        for vma in reversed(self._vmas):
            if vma.end < top and top - vma.end >= length + below:
                break
            top = min(top, vma.gap_start)
            if top - low < length + below:
                return None
        return top - length if top - low >= length + below else None

    def _replace(self, old: list[Vma], new: list[Vma]) -> None:
        first = (old or new)[0].start
        at = bisect_right(self._starts, first - 1)
        self._vmas[at : at + len(old)] = new
        self._starts[at : at + len(old)] = [v.start for v in new]
