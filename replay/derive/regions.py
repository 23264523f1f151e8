"""What was mapped where, when: the one reading of a run's mapping operations.

Shadow stacks, their words, occupied ranges and symbols all read from here, so they agree. The laws:
- A row of `mappings` takes effect from its seq on. A failed one has no effect, except that mprotect
  and madvise return -ENOMEM at a hole after they changed what is mapped: mprotect below the hole,
  madvise on both sides of it.
- An `Origin` is the identity of memory over splits, partial unmaps, mprotect, and mremap that grows
  or shrinks it in place. mremap to another place, and fork, begin a new origin, which names the old
  one. Neighbours that the kernel merges into one VMA keep their origins.
- mremap that grows extends the last region it was given, in place or where it moved to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.rows import Area, Call, Copied, Mapping, Rows, Stood, called, read
from shstk.replay.derive.timeline import Timeline
from shstk.schemas.uapi import (
    ERRNO,
    MADV_DOFORK,
    MADV_DONTFORK,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_KEEPONFORK,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)

if TYPE_CHECKING:
    from shstk.replay.run import Run

_EINVAL, _ENOMEM = -ERRNO["EINVAL"], -ERRNO["ENOMEM"]
_EVERYTHING: Final = Area(0, 2**64 - 1)
_ON_FORK: Final = {
    MADV_DONTFORK: "dropped",
    MADV_DOFORK: "copied",
    MADV_WIPEONFORK: "wiped",
    MADV_KEEPONFORK: "copied",
}

_GUARDS: Final = {MADV_GUARD_INSTALL: True, MADV_GUARD_REMOVE: False}


@dataclass(eq=False, slots=True)
class Origin:
    """How memory came to its place. area: as it was then.

    regions: every state of it, in order of their ends. lost: what was unmapped of it, and when.
    """

    mm: int | None
    area: Area
    seq: int
    how: str  # map, remap or fork; dump or guess: it stood in a dump
    of: Origin | None = None
    regions: list[Region] = field(default_factory=list)
    lost: list[tuple[Area, int]] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Region:
    """A range mapped in one way from one seq until another (None: the run's end).

    A step that changes or cuts it ends it; what remains begins as a new region, with the same
    made_seq. Only the fold writes to_seq. offset: of its first byte in the file `input`. name: the
    file's path, or [vdso], [stack], [heap], [shadow stack], or empty for other anonymous memory.
    on_fork: whether a child's copy is copied, wiped (zeros) or dropped (not there). guard: made
    inaccessible by MADV_GUARD_INSTALL, which mprotect and MADV_DONTNEED leave.
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
    origin: Origin = field(repr=False, compare=False)
    to_seq: int | None = None
    on_fork: str = "copied"
    guard: bool = False

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def area(self) -> Area:
        return Area(self.start, self.length)

    def over(self, seq: int) -> bool:
        """Whether it had ended by a time."""
        return self.to_seq is not None and self.to_seq <= seq

    def part(self, start: int, end: int, seq: int) -> Region:
        """What is left of it between two addresses from seq on."""
        offset = self.offset + start - self.start if self.input is not None else 0
        return Region(  # four times as quick as `replace`
            mm=self.mm,
            start=start,
            length=end - start,
            prot=self.prot,
            flags=self.flags,
            shadow_stack=self.shadow_stack,
            input=self.input,
            offset=offset,
            name=self.name,
            made_seq=self.made_seq,
            from_seq=seq,
            origin=self.origin,
            on_fork=self.on_fork,
            guard=self.guard,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation did to the contents of a range.

    kind: cleared (to zeros, or to a file's bytes), ended (unmapped) or copied: a word is now what
    was at its address + shift in from_mm.
    """

    seq: int
    mm: int | None
    area: Area
    kind: str
    from_mm: int | None = None
    shift: int = 0


class Regions:
    """Every region of a run, and which one an address was in.

    ends: the seq at which each address space was dropped. advice: calls of madvise.
    """

    def __init__(
        self,
        mappings: Rows[Mapping],
        forks: Rows[Copied],
        ends: dict[int, int],
        advice: Rows[Call] | None = None,
        paths: dict[int, str] | None = None,
        brks: frozenset[int] = frozenset(),
        stood: Rows[Stood] | None = None,
    ) -> None:
        self.origins: list[Origin] = []  # in the order in which they began
        self.changes: list[Change] = []  # in seq order
        # by seq: those that an operation took a part of, in order (the values mean nothing)
        self.cuts: dict[int, dict[Origin, None]] = {}
        self._now: dict[int | None, list[Region]] = {}  # by start
        self._paths = paths or {}
        self._brks = brks
        for row in stood or ():
            self._add(self._stood(row))
        self._fold(mappings, forks, ends, advice)
        for region in (r for here in self._now.values() for r in here):
            region.origin.regions.append(region)
        every = (r for origin in self.origins for r in origin.regions)
        self.all: list[Region] = sorted(every, key=_order)

    @classmethod
    def of(cls, run: Run, mappings: Rows[Mapping] | None = None) -> Regions:
        """mappings: those of the run, if they have been read."""
        mms, calls = run.table("mms"), run.scan("syscalls")
        advises = called("madvise") & (pl.col("a2") % 2**32).is_in(list(_ON_FORK))
        return cls(
            read(run.scan("mappings"), Mapping) if mappings is None else mappings,
            read(mms.filter(pl.col("cause").cast(pl.String) == "fork"), Copied),
            dict(mms.select("mm", "seq_end").drop_nulls().iter_rows()),
            read(calls.filter(advises), Call),
            dict(run.table("inputs").select("input", "guest_path").iter_rows()),
            frozenset(calls.filter(called("brk")).select("seq").collect()["seq"]),
            read(run.table("dump_areas"), Stood),
        )

    # Questions

    def at(self, mm: int | None, address: int, seq: int | None = None) -> Region | None:
        """The region that an address was in at a time; without seq, the last one that had it."""
        line = self._timelines.get(mm)
        if line is None:
            return None
        return line.last(address) if seq is None else line.at(address, seq)

    def within(self, mm: int | None, start: int, end: int, seq: int) -> list[Region]:
        """The regions that reached into a range at a time, by address."""
        line = self._timelines.get(mm)
        return list(line.within(start, end, seq)) if line else []

    def around(self, mm: int | None, address: int, seq: int) -> tuple[Region | None, Region | None]:
        """The nearest regions that ended at or below, and that began above, an address."""
        line = self._timelines.get(mm)
        if line is None:
            return None, None
        above = line.after(address, seq)
        if above and above.start <= address:
            above = line.after(above.end, seq)
        return line.before(address, seq), above

    @cached_property
    def _timelines(self) -> dict[int | None, Timeline[Region]]:
        of: dict[int | None, list[Region]] = {}
        for region in self.all:
            of.setdefault(region.mm, []).append(region)
        return {mm: Timeline(regions) for mm, regions in of.items()}

    # The fold

    def _fold(
        self,
        mappings: Rows[Mapping],
        forks: Rows[Copied],
        ends: dict[int, int],
        advice: Rows[Call] | None,
    ) -> None:
        steps: list[tuple[int, Mapping | Copied | Call | int]] = [(m.seq, m) for m in mappings]
        steps += [(f.seq, f) for f in forks]
        steps += [(c.seq, c) for c in advice or ()]
        steps += [(seq, mm) for mm, seq in ends.items()]
        for seq, row in sorted(steps, key=lambda step: step[0]):
            if isinstance(row, Mapping):
                self._apply(row)
            elif isinstance(row, Copied):
                self._fork(row)
            elif isinstance(row, Call):
                self._advise(row)
            else:
                self._take(row, _EVERYTHING, seq)

    def _apply(self, row: Mapping) -> None:
        stopped = row.ret == _ENOMEM and row.op in ("protect", "discard")
        if row.start is None or not (row.done or stopped):
            return
        if row.op == "map":
            self._take(row.mm, row.area, row.seq)
            self._change(row.seq, row.mm, row.area, "cleared")
            self._add(self._mapped(row))
        elif row.op == "unmap":
            self._take(row.mm, row.area, row.seq)
        elif row.op == "protect":
            self._protect(row)
        elif row.op == "discard":
            self._change(row.seq, row.mm, row.area, "cleared")
            if row.flags in _GUARDS:
                for part in self._cut(row.mm, row.area, row.seq):
                    self._add(replace(part, guard=_GUARDS[row.flags]))
        elif row.op == "remap" and row.old_start is not None:
            self._remap(row, Area(row.old_start, row.old_length or 0))

    def _protect(self, row: Mapping) -> None:
        end = row.area.base
        for region in self._under(row.mm, row.area):
            if region.start > end:
                break
            end = min(region.end, row.area.top)
        for part in self._cut(row.mm, Area(row.area.base, end - row.area.base), row.seq):
            self._add(replace(part, prot=_effective(row.prot or 0)))

    def _remap(self, row: Mapping, old: Area) -> None:
        mm, seq, start = row.mm, row.seq, row.area.base
        if row.length < old.size:
            self._take(mm, Area(old.base + row.length, old.size - row.length), seq)
            old = Area(old.base, row.length)
        grown = Area(start + old.size, row.length - old.size)
        if start == old.base:
            self._take(mm, grown, seq)
            for last in self._under(mm, Area(grown.base - 1, 1)) if grown.size else ():
                self._cut(mm, last.area, seq)
                for part in _grown([replace(last, from_seq=seq, to_seq=None)], grown.size):
                    self._add(part)
        else:
            self._move(row, old, grown)
        self._change(seq, mm, grown, "cleared")

    def _move(self, row: Mapping, old: Area, grown: Area) -> None:
        """mremap to another place. An old size of 0 maps shared memory a second time."""
        mm, seq, start = row.mm, row.seq, row.area.base
        parts = [
            r.part(max(r.start, old.base), min(r.end, old.top), seq)
            for r in self._under(mm, old if old.size else Area(old.base, 1))
        ]
        if (row.flags or 0) & MREMAP_DONTUNMAP:
            self._change(seq, mm, old, "cleared")
        else:
            self._take(mm, old, seq)
        self._take(mm, row.area, seq)
        self._change(seq, mm, Area(start, old.size), "copied", mm, old.base - start)
        moved = [replace(p, start=p.start + start - old.base) for p in parts]
        self._begin("remap", _grown(moved, grown.size))

    def _fork(self, row: Copied) -> None:
        parents = self._now.get(row.from_mm, [])
        plain = [_EVERYTHING]
        for r in parents:
            if r.on_fork != "copied":
                plain = [left for area in plain for left in area.minus(r.area)]
            if r.on_fork == "wiped":
                self._change(row.seq, row.mm, r.area, "cleared")
        for area in plain:
            self._change(row.seq, row.mm, area, "copied", row.from_mm)
        kept = [r for r in parents if r.on_fork != "dropped"]
        copies = [replace(r, mm=row.mm, from_seq=row.seq) for r in kept]
        self._begin("fork", [replace(r, guard=r.guard and r.on_fork == "copied") for r in copies])

    def _advise(self, row: Call) -> None:
        area = Area(row.a0, -(-row.a1 // PAGE) * PAGE)
        if row.ret == _EINVAL and row.a0 % PAGE == 0:  # one refused, which ends the walk
            others = (r for r in self._under(row.mm, area) if r.input or r.flags & MAP_SHARED)
            end = min((r.start for r in others), default=area.base)
            area = Area(area.base, max(end - area.base, 0))
        elif row.ret not in (0, _ENOMEM):
            return
        for part in self._cut(row.mm, area, row.seq):
            self._add(replace(part, on_fork=_ON_FORK[row.a2 % 2**32]))

    def _begin(self, how: str, parts: list[Region]) -> None:
        """Adds regions that came from elsewhere; those of one origin have one origin here."""
        origins: dict[Origin, Origin] = {}
        for part in parts:
            new = origins.get(part.origin)
            if new is None:
                new = Origin(part.mm, part.area, part.from_seq, how, part.origin)
                origins[part.origin] = new
                self.origins.append(new)
            new.area = Area(new.area.base, part.end - new.area.base)
            self._add(replace(part, origin=new))

    def _mapped(self, row: Mapping) -> Region:
        flags, prot, input = row.flags or 0, _effective(row.prot or 0), row.input
        if row.shadow_stack:
            prot |= PROT_READ | PROT_WRITE  # VM_SHADOW_STACK has both, whatever was asked
        if input is not None:
            name = self._paths.get(input, "")
        elif row.shadow_stack:
            name = "[shadow stack]"
        elif flags & MAP_GROWSDOWN:
            name = "[stack]"
        elif row.during in self._brks:
            name = "[heap]"
        elif flags & MAP_ANONYMOUS and prot == PROT_READ | PROT_EXEC:
            name = "[vdso]"  # no program can use fresh memory that it can only read
        else:
            name = ""
        origin = Origin(row.mm, row.area, row.seq, "map")
        self.origins.append(origin)
        return Region(
            mm=row.mm,
            start=row.area.base,
            length=row.length,
            prot=prot,
            flags=flags,
            shadow_stack=row.shadow_stack,
            input=input,
            offset=row.offset or 0,
            name=name,
            made_seq=row.seq,
            from_seq=row.seq,
            origin=origin,
        )

    def _stood(self, row: Stood) -> Region:
        area = Area(row.start, row.length)
        how = "guess" if row.shadow_stack == "guess" else "dump"
        origin = Origin(row.mm, area, row.seq, how)
        self.origins.append(origin)
        plain = "[shadow stack]" if row.shadow_stack else ""
        return Region(
            mm=row.mm,
            start=row.start,
            length=row.length,
            prot=row.prot,
            flags=MAP_PRIVATE | (0 if row.name else MAP_ANONYMOUS),
            shadow_stack=row.shadow_stack is not None,
            input=row.input,
            offset=row.offset or 0,
            name=row.name or plain,
            made_seq=row.seq,
            from_seq=row.seq,
            origin=origin,
        )

    # Parts of the operations

    def _change(
        self,
        seq: int,
        mm: int | None,
        area: Area,
        kind: str,
        from_mm: int | None = None,
        shift: int = 0,
    ) -> None:
        if area.size > 0:
            self.changes.append(Change(seq, mm, area, kind, from_mm, shift))

    def _take(self, mm: int | None, area: Area, seq: int) -> None:
        """Unmaps a range."""
        for part in self._cut(mm, area, seq):
            part.origin.lost.append((part.area, seq))
            self.cuts.setdefault(seq, {})[part.origin] = None
        self._change(seq, mm, area, "ended")

    def _cut(self, mm: int | None, area: Area, seq: int) -> list[Region]:
        """Takes a range out, and returns what was in it, as of seq; what is beside it stays."""
        low, high = self._span(mm, area)
        here = self._now.get(mm, [])
        hit = here[low:high]
        for region in hit:
            if region.from_seq < seq:  # what began at the same step never stood
                region.to_seq = seq
                region.origin.regions.append(region)
        here[low:high] = list(_outside(hit, area, seq))
        return [r.part(max(r.start, area.base), min(r.end, area.top), seq) for r in hit]

    def _under(self, mm: int | None, area: Area) -> list[Region]:
        """The regions that reach into a range now."""
        low, high = self._span(mm, area)
        return self._now.get(mm, [])[low:high]

    def _span(self, mm: int | None, area: Area) -> tuple[int, int]:
        here = self._now.get(mm, [])
        if area.size <= 0:
            return 0, 0
        low = bisect_right(here, area.base, key=_start)
        if low and here[low - 1].end > area.base:
            low -= 1
        return low, bisect_left(here, area.top, key=_start)

    def _add(self, region: Region) -> None:
        here = self._now.setdefault(region.mm, [])
        here.insert(bisect_left(here, region.start, key=_start), region)


def _grown(parts: list[Region], size: int) -> list[Region]:
    """Parts whose last one mremap extends: with what can be accessed, after a guard too."""
    if not parts or not size:
        return parts
    *others, last = parts
    if not last.guard:
        return [*others, replace(last, length=last.length + size)]
    more = last.part(last.end, last.end + size, last.from_seq)
    return [*others, last, replace(more, guard=False)]


def _outside(regions: list[Region], area: Area, seq: int) -> Iterator[Region]:
    for r in regions:
        if r.start < area.base:
            yield r.part(r.start, area.base, seq)
        if r.end > area.top:
            yield r.part(area.top, r.end, seq)


def _effective(prot: int) -> int:
    """arch_calc_vm_prot_bits: what can be written can be read."""
    return prot | PROT_READ if prot & PROT_WRITE else prot


_start: Final = attrgetter("start")
_order: Final = attrgetter("from_seq", "start")
