"""What stood mapped where, when: every mapped range of every address space, with its lifetime."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shstk.replay.derive.rows import called
from shstk.schemas.uapi import (
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MREMAP_DONTUNMAP,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)

if TYPE_CHECKING:
    from shstk.replay.run import Run

_PAGE_BITS: Final = 12


@dataclass(frozen=True, slots=True)
class Region:
    """A range mapped in one way from one seq until another (None: the run's end).

    A step that changes or cuts it ends it; what remains begins anew, with the same made_seq.
    offset: of its first byte in the file `input`. name: the file's path, or [vdso], [stack],
    [heap], [shadow stack], or empty for other anonymous memory.
    """

    mm: int | None
    start: int
    length: int
    prot: int
    flags: int
    shadow_stack: bool
    input: int | None
    offset: int
    name: str
    made_seq: int
    from_seq: int
    to_seq: int | None = None

    @property
    def end(self) -> int:
        return self.start + self.length

    def stands(self, seq: int) -> bool:
        return self.from_seq <= seq and (self.to_seq is None or seq < self.to_seq)

    def part(self, start: int, end: int, seq: int) -> Region:
        """What is left of it between two addresses from seq on."""
        offset = self.offset + start - self.start if self.input is not None else 0
        return replace(self, start=start, length=end - start, offset=offset, from_seq=seq)


class Regions:
    """Every region of a run, and which one an address was in."""

    def __init__(self, run: Run) -> None:
        self._ended: list[Region] = []
        self._now: dict[int | None, list[Region]] = {}  # by start
        self._paths = dict(run.table("inputs").select("input", "guest_path").iter_rows())
        self._brks = _brks(run)
        self._fold(run)
        rest = [r for here in self._now.values() for r in here]
        self.all: list[Region] = sorted([*self._ended, *rest], key=_order)
        self._of: dict[int | None, list[Region]] = {}
        for region in self.all:
            self._of.setdefault(region.mm, []).append(region)
        self._pages: dict[tuple[int | None, int], list[Region]] = {}

    def at(self, mm: int | None, address: int, seq: int | None = None) -> Region | None:
        """The region that an address was in at a time; without seq, the last one that held it."""
        page = (mm, address >> _PAGE_BITS)
        if page not in self._pages:
            held = (r for r in self._of.get(mm, ()) if r.start <= address < r.end)
            self._pages[page] = list(held)
        for region in reversed(self._pages[page]):
            if seq is None or region.stands(seq):
                return region
        return None

    def within(self, mm: int | None, start: int, end: int, seq: int) -> list[Region]:
        """The regions that reached into a range at a time, by address."""
        here = (r for r in self._of.get(mm, ()) if r.start < end and start < r.end)
        return sorted((r for r in here if r.stands(seq)), key=_start)

    def around(self, mm: int | None, address: int, seq: int) -> tuple[Region | None, Region | None]:
        """The nearest regions that ended at or below, and that began above, an address."""
        here = [r for r in self._of.get(mm, ()) if r.stands(seq)]
        below = max((r for r in here if r.end <= address), key=_start, default=None)
        above = min((r for r in here if r.start > address), key=_start, default=None)
        return below, above

    def _fold(self, run: Run) -> None:
        steps = [(row["seq"], row) for row in run.table("mappings").iter_rows(named=True)]
        spaces = run.table("mms").select("seq", "mm", "from_mm", "cause", "seq_end")
        for row in spaces.iter_rows(named=True):
            if row["cause"] == "fork":
                steps.append((row["seq"], row))
            if row["seq_end"] is not None:
                steps.append((row["seq_end"], {"op": "end", "mm": row["mm"]}))
        for seq, row in sorted(steps, key=lambda step: step[0]):
            if "cause" in row:
                copies = [replace(r, mm=row["mm"], from_seq=seq) for r in self._in(row["from_mm"])]
                self._now[row["mm"]] = copies
            elif row["op"] == "end":
                self._close(self._now.pop(row["mm"], []), seq)
            elif row["start"] is not None and (row["ret"] >= 0 or row["ret"] < -4095):
                self._apply(row)

    def _apply(self, row: dict[str, object]) -> None:
        mm, seq, op = _int(row["mm"]), _int(row["seq"]), row["op"]
        start, length = _int(row["start"]), _int(row["length"])
        if op == "map":
            self._cut(mm, start, length, seq)
            self._add(self._mapped(row))
        elif op == "unmap":
            self._cut(mm, start, length, seq)
        elif op == "protect":
            for r in self._cut(mm, start, length, seq):
                self._add(replace(r, prot=_int(row["prot"])))
        elif op == "remap":
            old = _int(row["old_start"])
            moved = self._cut(mm, old, _int(row["old_length"]), seq)
            if _int(row["flags"]) & MREMAP_DONTUNMAP:
                for r in moved:
                    self._add(r)
            self._cut(mm, start, length, seq)
            for r in moved:
                at = start + r.start - old
                size = length - (at - start) if r is moved[-1] else r.length
                if size > 0:
                    self._add(replace(r, start=at, length=size))

    def _mapped(self, row: dict[str, object]) -> Region:
        flags, prot, input = _int(row["flags"]), _int(row["prot"]), row["input"]
        if row["shadow_stack"]:
            prot |= PROT_READ | PROT_WRITE  # VM_SHADOW_STACK comes with both, whatever was asked
        if input is not None:
            name = str(self._paths.get(input, ""))
        elif row["shadow_stack"]:
            name = "[shadow stack]"
        elif flags & MAP_GROWSDOWN:
            name = "[stack]"
        elif row["during"] in self._brks:
            name = "[heap]"
        elif flags & MAP_ANONYMOUS and prot == PROT_READ | PROT_EXEC:
            name = "[vdso]"  # no program can use fresh memory that it can only read
        else:
            name = ""
        return Region(
            mm=_int(row["mm"]),
            start=_int(row["start"]),
            length=_int(row["length"]),
            prot=prot,
            flags=flags,
            shadow_stack=bool(row["shadow_stack"]),
            input=None if input is None else _int(input),
            offset=_int(row["offset"]),
            name=name,
            made_seq=_int(row["seq"]),
            from_seq=_int(row["seq"]),
        )

    def _in(self, mm: int | None) -> list[Region]:
        return self._now.setdefault(mm, [])

    def _add(self, region: Region) -> None:
        here = self._in(region.mm)
        here.insert(bisect_left(here, region.start, key=_start), region)

    def _close(self, regions: list[Region], seq: int) -> None:
        """They ended; what began at the same step never stood."""
        self._ended += [replace(r, to_seq=seq) for r in regions if r.from_seq < seq]

    def _cut(self, mm: int | None, start: int, length: int, seq: int) -> list[Region]:
        """Ends what stands in a range; returns the parts inside it, as of seq."""
        here, end = self._in(mm), start + length
        low = bisect_right(here, start, key=_start)
        if low and here[low - 1].end > start:
            low -= 1
        high = bisect_left(here, end, key=_start)
        hit = here[low:high]
        self._close(hit, seq)
        here[low:high] = list(_outside(hit, start, end, seq))
        return [r.part(max(r.start, start), min(r.end, end), seq) for r in hit]


def _outside(regions: list[Region], start: int, end: int, seq: int) -> Iterator[Region]:
    for r in regions:
        if r.start < start:
            yield r.part(r.start, start, seq)
        if r.end > end:
            yield r.part(end, r.end, seq)


def _brks(run: Run) -> frozenset[int]:
    calls = run.scan("syscalls").filter(called("brk")).select("seq").collect()
    return frozenset(calls["seq"])


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _start(region: Region) -> int:
    return region.start


def _order(region: Region) -> tuple[int, int]:
    return region.from_seq, region.start
