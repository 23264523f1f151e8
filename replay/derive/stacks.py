"""Every shadow stack of a run: who got it, how, and how it ended; from regions and the history.

A stack is one allocation, not one VMA: adjacent areas merge, and a munmap inside splits. What
mremap moves is a stack of its own at the new place, with the same owner.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from shstk.replay.derive.history import History, Task
from shstk.replay.derive.regions import Origin, Region, Regions
from shstk.replay.derive.rows import Area, Copied, Mapping, Rows
from shstk.replay.derive.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Ended:
    """How memory went: exit, exec, prctl, failed clone, munmap, mmap, mremap or mm dropped."""

    seq: int
    by: int | None  # the tid under which the task called
    how: str
    step: int  # seq of the step in which it did


@dataclass(eq=False, slots=True)
class Stack:
    """One allocation, copy or move. area: as it was then; regions and lost of `origin` say what
    became of it.

    owner: the task it was made for; None for map_shadow_stack and copies of such stacks.
    """

    number: int  # index in Ledger.stacks
    mm: int | None
    area: Area
    how: str  # clone, prctl, map_shadow_stack, fork copy, mremap; dump or guess: it stood in a dump
    seq: int  # when it was mapped
    step: int  # seq of the clone, call or fork in which it was
    by: int | None  # tid
    owner: Task | None
    origin: Origin
    ended: Ended | None = None

    def lives(self, seq: int) -> bool:
        return self.seq < seq and (self.ended is None or seq <= self.ended.seq)

    @property
    def cut(self) -> int | None:
        """When some of it was first taken."""
        return min((seq for _, seq in self.origin.lost), default=None)

    @property
    def name(self) -> str:
        if self.how in ("dump", "guess"):
            return f"the shadow stack {self.area}"
        whose = f"task {self.owner.tid}'s" if self.owner else "no task's"
        return f"{whose} stack {self.area} ({self.how} by task {self.by})"

    def taken(self, address: int, seq: int) -> Area:
        """What was taken of it at a seq, around an address."""
        lost = joined(area for area, at in self.origin.lost if at == seq)
        return next(area for area in lost if area.holds(address))

    def standing(self, seq: int) -> list[Area]:
        """What stands of it just after seq, by address."""
        return joined(r.area for r in self.origin.regions if r.from_seq <= seq and not r.over(seq))


class Ledger:
    """All stacks in the order in which they came to be, and who is asked for by place or owner.

    Every question about a seq is about the moment just before it.
    """

    def __init__(
        self, history: History, regions: Regions, mappings: Rows[Mapping], forks: Rows[Copied]
    ) -> None:
        self.stacks: list[Stack] = []
        self._history = history
        self._cuts = regions.cuts
        self._rows = {row.seq: row for row in mappings}
        self._children = {fork.seq: fork.tid for fork in forks}
        self._makers, self._enders = _steps(history)
        self._drops = {x.dropped.seq for x in history.exits if x.dropped}
        self._of: dict[Origin, Stack] = {}
        for origin in regions.origins:
            if any(r.shadow_stack for r in origin.regions[:1]):
                self._add(origin)
        self._owned: dict[Task | None, list[Stack]] = {}
        self._placed: dict[tuple[int | None, int], list[Stack]] = {}
        for stack in self.stacks:
            self._owned.setdefault(stack.owner, []).append(stack)
            self._placed.setdefault((stack.mm, stack.area.base), []).append(stack)
        of: dict[int | None, list[Region]] = {}
        for stack in self.stacks:
            of.setdefault(stack.mm, []).extend(stack.origin.regions)
        self._lines = {mm: Timeline(regions) for mm, regions in of.items()}
        regions_ = [region for stack in self.stacks for region in stack.origin.regions]
        # the seqs at which any of them changed
        self.times = _sorted(t for r in regions_ for t in (r.from_seq, r.to_seq) if t is not None)
        self._bounds = _sorted(b for r in regions_ for b in (r.start, r.end))

    def at(self, mm: int | None, address: int, seq: int) -> Stack | None:
        """The stack that an address lies in, or else is the top of, at a time."""
        return self._held(mm, address, seq) or self._held(mm, address - 1, seq)

    def on(self, mm: int | None, ssp: int, seq: int) -> Stack | None:
        """The stack that an ssp is on. Between two neighbours it is the empty one below: a stack
        that is full to its last word is rarer."""
        below = self._held(mm, ssp - 1, seq)
        here = self._held(mm, ssp, seq)
        return below or here

    def within(self, mm: int | None, area: Area, seq: int) -> list[Stack]:
        """The stacks that reach into a range, by address."""
        line = self._lines.get(mm)
        found = line.within(area.base, area.top, seq - 1) if line else ()
        return list(dict.fromkeys(self._of[region.origin] for region in found))

    def under(self, row: Mapping) -> Stack | None:
        """The stack that a mapping's area begins in, at the time of the mapping."""
        return self.at(row.mm, row.area.base, row.seq)

    def owned(self, task: Task, seq: int) -> Stack | None:
        """The stack that a task has recorded as its own at a time."""
        return next((s for s in self._owned.get(task, ()) if s.lives(seq)), None)

    def made(self, task: Task, area: Area, seq: int) -> Stack | None:
        """The stack that was mapped in just this area last: for the task, or for anybody."""
        here = self._placed.get((task.mm, area.base), [])
        last = None
        for at in reversed(range(bisect_right(here, seq, key=_made))):
            stack = here[at]
            if stack.area == area and stack.owner is task:
                return stack
            if stack.area == area:
                last = last or stack
        return last

    def victims(self, unmap: Mapping, actor: Task | None) -> Iterator[tuple[Stack, Task]]:
        """Stacks of live tasks other than `actor` that an unmap touches, with their owners."""
        touched = (self._of.get(origin) for origin in self._cuts.get(unmap.seq, ()))
        for stack in touched:
            owner = stack.owner if stack else None
            if stack and owner and owner is not actor and owner.lives(unmap.seq):
                yield stack, owner

    def ended(self, seq: int) -> Ended:
        """How what was taken of a stack at a seq went."""
        row = self._rows.get(seq)
        if row is None or row.during in self._drops:
            return Ended(seq, None, "mm dropped", seq)
        if seq in self._enders:
            how, step, by = self._enders[seq]
            return Ended(seq, by, how, step)
        return Ended(seq, row.tid, _CUTS[row.op], row.during or seq)

    @property
    def span(self) -> tuple[int, int]:
        """From the lowest to above the highest address that any shadow stack ever had."""
        bounds = [b for line in self._lines.values() for b in (line.bounds[0], line.bounds[-1])]
        return min(bounds, default=0), max(bounds, default=0)

    def touches(self, mm: int | None, area: Area, seq: int) -> bool:
        """Whether a shadow stack reaches into a range."""
        line = self._lines.get(mm)
        if line is None or not area.size:
            return False
        one = bisect_right(line.bounds, area.base) == bisect_left(line.bounds, area.top)
        if one:
            return line.at(area.base, seq - 1) is not None
        return any(line.within(area.base, area.top, seq - 1))

    def last(self, mm: int | None, address: int, seq: int) -> tuple[Stack | None, int | None]:
        """The last stack that had an address, and when that part of it was taken (None: it
        stands)."""
        line = self._lines.get(mm)
        found = line.last(address, seq - 1) if line else None
        if found is None:
            return None, None
        return self._of[found.origin], found.to_seq if found.over(seq - 1) else None

    def row(self, seq: int | None) -> Mapping | None:
        """The operation at a seq."""
        return None if seq is None else self._rows.get(seq)

    def marked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Adds to rows with mm, addr and seq the last stack that had the address: mark u32 (its
        number) and gone u64, when that part of it was taken, if before seq. Null: none, or it
        stood. Bounds and times cut the rows into pieces with one answer each; those of all address
        spaces together, since there may be thousands with a few rows each.
        """
        bounds, times = self._bounds, self.times
        keyed = rows.with_columns(
            segment=bounds.search_sorted(rows["addr"], side="right").cast(pl.UInt32),
            epoch=times.search_sorted(rows["seq"], side="left").cast(pl.UInt32),
        )
        known = []
        for mm, segment, epoch in keyed.select("mm", "segment", "epoch").unique().iter_rows():
            if segment and epoch and mm in self._lines:
                stack, gone = self.last(mm, bounds[segment - 1], times[epoch - 1] + 1)
                known.append((mm, segment, epoch, stack and stack.number, gone))
        key = {"mm": pl.UInt32, "segment": pl.UInt32, "epoch": pl.UInt32}
        schema = {**key, "mark": pl.UInt32, "gone": pl.UInt64}
        found = pl.DataFrame(known, schema=schema, orient="row")
        return keyed.join(
            found, on=list(key), how="left", nulls_equal=True, maintain_order="left"
        ).drop("segment", "epoch")

    def same(self, low: pl.Series, high: pl.Series) -> pl.Series:
        """Whether no bound of a stack lies between two addresses: all between are on one, or on
        none."""
        return self._bounds.search_sorted(low, side="right") == self._bounds.search_sorted(
            high, side="right"
        )

    def _held(self, mm: int | None, address: int, seq: int) -> Stack | None:
        line = self._lines.get(mm)
        found = line.at(address, seq - 1) if line else None
        return self._of[found.origin] if found else None

    def _add(self, origin: Origin) -> None:
        source = self._of.get(origin.of) if origin.of else None
        step, owner, by = origin.seq, source.owner if source else None, None
        if origin.how in ("dump", "guess"):
            how = origin.how
        elif origin.how == "fork":
            how, child = "fork copy", self._history.task(self._children.get(step), step)
            parent = child.creator if child else None
            owner = child if parent and owner is parent else None
            by = parent.tid if parent else None
        else:
            row = self._rows[step]
            how, by, step = "mremap", row.tid, row.during or step
            if origin.how == "map":
                how, step, owner = self._makers.get(row.seq, ("map_shadow_stack", step, None))
        stack = Stack(
            len(self.stacks), origin.mm, origin.area, how, origin.seq, step, by, owner, origin
        )
        ends = [r.to_seq for r in origin.regions]
        if None not in ends:
            stack.ended = self.ended(max(end for end in ends if end is not None))
        self._of[origin] = stack
        self.stacks.append(stack)


_CUTS: Final = {"map": "mmap", "unmap": "munmap", "remap": "mremap"}


def joined(areas: Iterable[Area]) -> list[Area]:
    """The same addresses as few areas, by address."""
    found: list[Area] = []
    for area in sorted(areas, key=lambda area: area.base):
        if found and found[-1].top == area.base:
            low = found.pop().base
            area = Area(low, area.top - low)
        found.append(area)
    return found


def _sorted(numbers: Iterable[int]) -> pl.Series:
    return pl.Series(sorted(set(numbers)), dtype=pl.UInt64)


def _made(stack: Stack) -> int:
    return stack.seq


def _steps(
    history: History,
) -> tuple[dict[int, tuple[str, int, Task | None]], dict[int, tuple[str, int, int | None]]]:
    """By the seq of a mapping: in what, when, for whom it was made; in what, when, by whom it went.

    A thread that execs goes on under its leader's tid: what it unmaps then is still its doing.
    """
    makers: dict[int, tuple[str, int, Task | None]] = {}
    enders: dict[int, tuple[str, int, int | None]] = {}
    for c in history.clones:
        makers |= {m.seq: ("clone", c.seq, c.child) for m in c.mapped.made}
        enders |= {m.seq: ("failed clone", c.seq, m.tid) for m in c.mapped.gone if c.failed}
    for p in history.prctls:
        makers |= {m.seq: ("prctl", p.seq, p.task) for m in p.mapped.made}
        enders |= {m.seq: ("prctl", p.seq, m.tid) for m in p.mapped.gone}
    for x in history.exits:
        enders |= {m.seq: ("exit", x.seq, m.tid) for m in x.mapped.gone}
    for e in history.execs:
        enders |= {m.seq: ("exec", e.seq, e.task.tid) for m in e.mapped.gone}
    return makers, enders
