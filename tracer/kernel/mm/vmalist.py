"""The areas of an address space, sorted: splits and merges them and finds gaps.

The areas lie in chunks that know their widest gap, so that no operation looks at every area: with
10,000 of them, a search for a gap looks at the chunks and at the areas of one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from shstk.tracer.kernel.mm.vma import Vma

_ROOM: Final = 128  # areas in a chunk


class _Chunk:
    """Neighbouring areas; never empty, never changed.

    low: where the gap below the first one must begin. widest: the largest gap between two, once a
    search has seen them all.
    """

    widest: int | None = None

    def __init__(self, vmas: list[Vma], starts: list[int]) -> None:
        self.vmas = vmas
        self.starts = starts
        self.low, self.end = vmas[0].gap_start, vmas[-1].end

    def highest_gap(self, top: int, needed: int) -> int | None:
        """The end of the highest gap between two areas, below `top`, with `needed` bytes."""
        if self.widest is not None and self.widest < needed:
            return None
        widest, whole = 0, self.end <= top
        above = top if not whole else min(top, self.vmas[-1].gap_start)
        for vma in islice(reversed(self.vmas), int(whole), None):
            if vma.end < above:
                if above - vma.end >= needed:
                    return above
                widest = max(widest, above - vma.end)
            above = min(above, vma.gap_start)
        if whole:
            self.widest = widest
        return None


class VmaList:
    """A sorted list without overlaps. Neighbours that can be merged are merged.

    total, data, stack, exec, locked: total_vm and so on, in bytes. peak: the largest total.
    """

    def __init__(self, vmas: list[Vma] | None = None) -> None:
        self._chunks: list[_Chunk] = []
        self._firsts: list[int] = []  # start of the first area of each chunk
        self._count = 0
        self.total = self.data = self.stack = self.exec = self.locked = 0
        self.peak = 0
        if vmas:
            self._replace([], vmas)

    def __iter__(self) -> Iterator[Vma]:
        return chain.from_iterable(chunk.vmas for chunk in self._chunks)

    def __len__(self) -> int:
        return self._count

    def copy(self) -> VmaList:
        new = VmaList()
        vars(new).update(vars(self), _chunks=list(self._chunks), _firsts=list(self._firsts))
        new.peak = new.total
        return new

    def find(self, addr: int) -> Vma | None:
        """The area that covers addr."""
        if not self._firsts or addr < self._firsts[0]:
            return None
        chunk = self._chunks[bisect_right(self._firsts, addr) - 1]
        vma = chunk.vmas[bisect_right(chunk.starts, addr) - 1]
        return vma if addr < vma.end else None

    def touching(self, start: int, end: int) -> list[Vma]:
        """The areas with a byte in [start, end)."""
        found: list[Vma] = []
        at = max(bisect_right(self._firsts, start) - 1, 0)
        for chunk in islice(self._chunks, at, None):
            first = max(bisect_right(chunk.starts, start) - 1, 0)
            beyond = bisect_left(chunk.starts, end)
            found += chunk.vmas[first:beyond]
            if beyond < len(chunk.vmas):
                break
        if found and found[0].end <= start:
            del found[0]
        return found

    def after(self, addr: int) -> Vma | None:
        """The first area that starts at addr or above."""
        at = max(bisect_right(self._firsts, addr) - 1, 0)
        for chunk in islice(self._chunks, at, at + 2):
            if addr <= chunk.starts[-1]:
                return chunk.vmas[bisect_left(chunk.starts, addr)]
        return None

    def before(self, addr: int) -> Vma | None:
        """The last area that ends at addr or below."""
        return next((v for v in self._down(addr - 1) if v.end <= addr), None)

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
            vma = below.joined(vma)
        if above and above.start == vma.end and above.continues(vma):
            old.append(above)
            vma = vma.joined(above)
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
        top, needed = high, length + below
        for chunk in reversed(self._chunks):
            if chunk.end < top and top - chunk.end >= needed:
                return top - length
            if (end := chunk.highest_gap(top, needed)) is not None:
                return end - length
            top = min(top, chunk.low)
            if top - low < needed:
                return None
        return top - length if top - low >= needed else None

    def _down(self, addr: int) -> Iterator[Vma]:
        """The areas that start at addr or below, downwards."""
        at = bisect_right(self._firsts, addr) - 1
        for n in range(at, -1, -1):
            chunk = self._chunks[n]
            yield from reversed(chunk.vmas[: bisect_right(chunk.starts, addr)])

    def _replace(self, old: list[Vma], new: list[Vma]) -> None:
        """Put `new` in the place of `old`, which are neighbours in the list."""
        every = old or new
        low = max(bisect_right(self._firsts, every[0].start) - 1, 0)
        high = max(bisect_right(self._firsts, every[-1].start), 1) if old else low + 1
        chunks = self._chunks[low:high]
        vmas, starts = new, [v.start for v in new]
        if chunks:
            first, last = chunks[0], chunks[-1]
            begin = bisect_left(first.starts, every[0].start)
            end = bisect_right(last.starts, old[-1].start) if old else begin
            vmas = first.vmas[:begin] + new + last.vmas[end:]
            starts = first.starts[:begin] + starts + last.starts[end:]
        for next_one in self._chunks[high : high + 1]:
            if len(vmas) + len(next_one.vmas) <= _ROOM // 2:
                vmas = vmas + next_one.vmas
                starts = starts + next_one.starts
                high += 1
        step = len(vmas) if len(vmas) <= _ROOM else _ROOM // 2
        pieces = [
            _Chunk(vmas[n : n + step], starts[n : n + step]) for n in range(0, len(vmas), step or 1)
        ]
        self._chunks[low:high] = pieces
        self._firsts[low:high] = [piece.starts[0] for piece in pieces]
        self._count += len(new) - len(old)
        for vma in old:
            self._account(vma, -vma.length)
        for vma in new:
            self._account(vma, vma.length)
        self.peak = max(self.peak, self.total)

    def _account(self, vma: Vma, size: int) -> None:
        """vm_stat_account."""
        self.total += size
        if vma.is_exec:
            self.exec += size
        elif vma.is_stack:
            self.stack += size
        elif vma.is_data:
            self.data += size
        if "lo" in vma.flags:
            self.locked += size
