"""Every shadow stack of a run: who got it, how, and how it ended; from mappings and the history.

A stack is one allocation, not one VMA: adjacent areas merge, and a munmap inside splits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from replay.derive.history import History, Task
from replay.derive.rows import Area, Mapping, Rows


@dataclass(frozen=True, slots=True)
class Copied:
    """A row of mms made by fork."""

    seq: int
    tid: int | None
    mm: int | None
    from_mm: int | None


@dataclass(eq=False)
class Stack:
    """One allocation. `owner` is None where no task has it recorded (map_shadow_stack, copies)."""

    mm: int | None
    area: Area
    how: str  # clone, prctl, map_shadow_stack, fork copy, mremap
    seq: int  # when it was mapped
    step: int  # seq of the clone, call or fork in which it was
    by: int | None  # tid
    owner: Task | None
    left: tuple[Area, ...] = field(default=())
    cut: int | None = None  # seq at which some of it was first taken
    ended: Ended | None = None

    def lives(self, seq: int) -> bool:
        return self.seq < seq and (self.ended is None or seq <= self.ended.seq)

    @property
    def name(self) -> str:
        whose = f"task {self.owner.tid}'s" if self.owner else "no task's"
        return f"{whose} stack {self.area} ({self.how} by task {self.by})"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stack ended: exit, exec, prctl, failed clone, munmap, mmap, mremap or mm dropped."""

    seq: int
    by: int | None  # tid
    how: str
    step: int  # seq of the step in which it did


def stacks_of(
    history: History,
    mappings: Rows[Mapping],  # maps, unmaps and remaps, of any kind
    forks: Rows[Copied],
    mm_ends: dict[int, int],  # mm → seq
) -> list[Stack]:
    """All stacks, in the order in which they came to be."""
    return _Ledger(history, mm_ends).walk([*mappings, *forks])


class _Ledger:
    def __init__(self, history: History, mm_ends: dict[int, int]) -> None:
        self.history = history
        self.mm_ends = mm_ends
        self.stacks: list[Stack] = []
        self.live: dict[int | None, list[Stack]] = {}
        self.makers: dict[int, tuple[str, int, Task | None]] = {}
        self.enders: dict[int, tuple[str, int]] = {}
        for c in history.clones:
            owner = c.child
            self.makers |= {m.seq: ("clone", c.seq, owner) for m in c.mapped.made}
            self.enders |= {m.seq: ("failed clone", c.seq) for m in c.mapped.gone if c.failed}
        for p in history.prctls:
            self.makers |= {m.seq: ("prctl", p.seq, p.task) for m in p.mapped.made}
            self.enders |= {m.seq: ("prctl", p.seq) for m in p.mapped.gone}
        for x in history.exits:
            self.enders |= {m.seq: ("exit", x.seq) for m in x.mapped.gone}
        for e in history.execs:
            self.enders |= {m.seq: ("exec", e.seq) for m in e.mapped.gone}

    def walk(self, rows: Iterable[Mapping | Copied]) -> list[Stack]:
        for row in sorted(rows, key=lambda row: row.seq):
            if isinstance(row, Copied):
                self._copy(row)
            elif row.done:
                self._apply(row)
        for mm, stacks in self.live.items():
            end = self.mm_ends.get(mm) if mm is not None else None
            for stack in stacks:
                if end is not None:
                    stack.ended = Ended(end, None, "mm dropped", end)
        return self.stacks

    def _apply(self, row: Mapping) -> None:
        moved: list[Stack] = []
        if row.op == "remap" and row.old_start is not None:
            moved = self._cut(row, Area(row.old_start, row.old_length or 0), "mremap")
        if row.op in ("map", "unmap", "remap"):
            how = {"map": "mmap", "unmap": "munmap", "remap": "mremap"}[row.op]
            self._cut(row, row.area, how)
        for stack in moved:
            made = replace(
                stack, area=row.area, how="mremap", seq=row.seq, step=row.seq, cut=None, ended=None
            )
            self._add(made)
        if row.op == "map" and row.shadow_stack:
            how, step, owner = self.makers.get(
                row.seq, ("map_shadow_stack", row.during or row.seq, None)
            )
            self._add(Stack(row.mm, row.area, how, row.seq, step, row.tid, owner))

    def _add(self, stack: Stack) -> None:
        stack.left = (stack.area,)
        self.stacks.append(stack)
        self.live.setdefault(stack.mm, []).append(stack)

    def _cut(self, row: Mapping, area: Area, how: str) -> list[Stack]:
        """Takes an area out of the stacks of an address space; those that are gone with it."""
        gone = []
        for stack in self.live.get(row.mm, []):
            if not stack.area.overlaps(area):
                continue
            stack.cut = stack.cut or row.seq
            stack.left = tuple(piece for old in stack.left for piece in old.minus(area))
            if not stack.left:
                how, step = self.enders.get(row.seq, (how, row.during or row.seq))
                stack.ended = Ended(row.seq, row.tid, how, step)
                gone.append(stack)
        self.live[row.mm] = [s for s in self.live.get(row.mm, []) if s.left]
        return gone

    def _copy(self, row: Copied) -> None:
        child = self.history.task(row.tid, row.seq)
        for stack in list(self._live_at(row.from_mm)):
            own = child is not None and stack.owner is not None and stack.owner is child.creator
            self._add(
                Stack(
                    mm=row.mm,
                    area=stack.area,
                    how="fork copy",
                    seq=row.seq,
                    step=row.seq,
                    by=child.creator.tid if child and child.creator else None,
                    owner=child if own else None,
                )
            )

    def _live_at(self, mm: int | None) -> Iterator[Stack]:
        return iter(self.live.get(mm, []))


def victims(
    stacks: Iterable[Stack], unmap: Mapping, actor: Task | None
) -> Iterator[tuple[Stack, Task]]:
    """Stacks of live tasks other than `actor` that an unmap touches, with their owners."""
    for stack in stacks:
        owner = stack.owner
        if (
            owner is not None
            and owner is not actor
            and stack.mm == unmap.mm
            and stack.lives(unmap.seq)
            and stack.area.overlaps(unmap.area)
            and owner.lives(unmap.seq)
        ):
            yield stack, owner
