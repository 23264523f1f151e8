"""Every shadow stack of a run: who got it, how, and how it ended; from mappings and the history.

A stack is one allocation, not one VMA: adjacent areas merge, and a munmap inside splits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from shstk.replay.derive.history import History, Task
from shstk.replay.derive.places import Mark
from shstk.replay.derive.rows import Area, Mapping, Rows


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
    lost: list[tuple[Area, Ended]] = field(default_factory=list)  # piece by piece, if it was cut
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


class Ledger:
    """All stacks in the order in which they came to be, and who is asked for by place or owner."""

    def __init__(
        self,
        history: History,
        mappings: Rows[Mapping],  # of any kind
        forks: Rows[Copied],
        mm_ends: dict[int, int],  # mm → seq
    ) -> None:
        self.stacks: list[Stack] = []
        self._history = history
        self._touched: dict[int, list[Stack]] = {}  # by the seq of the unmap
        self._pieces: dict[int | None, list[tuple[Area, Stack]]] = {}  # what stands now, by base
        self._makers, self._enders = _steps(history)
        for row in sorted([*mappings, *forks], key=lambda row: row.seq):
            if isinstance(row, Copied):
                self._copy(row)
            elif row.done:
                self._apply(row)
        for stack in self.stacks:
            end = mm_ends.get(stack.mm) if stack.mm is not None else None
            if end is not None and stack.ended is None:
                stack.ended = Ended(end, None, "mm dropped", end)
        self._owned: dict[Task | None, list[Stack]] = {}
        self._placed: dict[tuple[int | None, int], list[Stack]] = {}
        self._bases: dict[int | None, list[int]] = {}
        for stack in self.stacks:
            self._owned.setdefault(stack.owner, []).append(stack)
            self._placed.setdefault((stack.mm, stack.area.base), []).append(stack)
        for mm, base in sorted(self._placed, key=lambda place: place[1]):
            self._bases.setdefault(mm, []).append(base)
        self._largest = max((s.area.size for s in self.stacks), default=0)

    def at(self, mm: int | None, address: int, seq: int) -> Stack | None:
        """The stack that an address lies in, or else is the top of, at a time."""
        bases = self._bases.get(mm, [])
        top = None
        for base in reversed(bases[: bisect_right(bases, address)]):
            if base + self._largest < address:
                break
            for stack in reversed(self._placed[mm, base]):
                if stack.lives(seq) and stack.area.holds(address):
                    return stack
                if stack.lives(seq) and stack.area.top == address:
                    top = stack
        return top

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
        for stack in reversed(here[: bisect_right(here, seq, key=_made)]):
            if stack.area == area and stack.owner is task:
                return stack
            if stack.area == area:
                last = last or stack
        return last

    def victims(self, unmap: Mapping, actor: Task | None) -> Iterator[tuple[Stack, Task]]:
        """Stacks of live tasks other than `actor` that an unmap touches, with their owners."""
        for stack in self._touched.get(unmap.seq, ()):
            owner = stack.owner
            if owner is not None and owner is not actor and owner.lives(unmap.seq):
                yield stack, owner

    def _apply(self, row: Mapping) -> None:
        moved: list[Stack] = []
        if row.op == "remap" and row.old_start is not None:
            moved = self._cut(row, Area(row.old_start, row.old_length or 0), "mremap")
        if row.op in _CUTS:
            self._cut(row, row.area, _CUTS[row.op])
        for stack in moved:
            how, seq = "mremap", row.seq
            self._add(
                replace(
                    stack, area=row.area, how=how, seq=seq, step=seq, lost=[], cut=None, ended=None
                )
            )
        if row.op == "map" and row.shadow_stack:
            step = row.during or row.seq
            how, step, owner = self._makers.get(row.seq, ("map_shadow_stack", step, None))
            self._add(Stack(row.mm, row.area, how, row.seq, step, row.tid, owner))

    def _add(self, stack: Stack) -> None:
        stack.left = (stack.area,)
        self.stacks.append(stack)
        insort(self._pieces.setdefault(stack.mm, []), (stack.area, stack), key=_base)

    def _cut(self, row: Mapping, area: Area, how: str) -> list[Stack]:
        """Takes an area out of the stacks of an address space; those that are gone with it."""
        pieces = self._pieces.get(row.mm, [])
        low, high = (
            bisect_right(pieces, area.base, key=_base),
            bisect_left(pieces, area.top, key=_base),
        )
        if low and pieces[low - 1][0].top > area.base:
            low -= 1
        hit = pieces[low:high]
        pieces[low:high] = [(left, stack) for piece, stack in hit for left in piece.minus(area)]
        end = Ended(row.seq, row.tid, *self._enders.get(row.seq, (how, row.during or row.seq)))
        for piece, stack in hit:
            stack.lost.append((piece.both(area), end))
        touched = list(dict.fromkeys(stack for _, stack in hit))
        gone = []
        for stack in touched:
            stack.cut = stack.cut or row.seq
            stack.left = tuple(left for old in stack.left for left in old.minus(area))
            if not stack.left:
                stack.ended = end
                gone.append(stack)
        self._touched[row.seq] = touched
        return gone

    def _copy(self, row: Copied) -> None:
        child = self._history.task(row.tid, row.seq)
        parent = child.creator if child else None
        stacks = dict.fromkeys(stack for _, stack in self._pieces.get(row.from_mm, ()))
        for stack in stacks:
            own = parent is not None and stack.owner is parent
            by = parent.tid if parent else None
            owner = child if own else None
            self._add(Stack(row.mm, stack.area, "fork copy", row.seq, row.seq, by, owner))


def stack_marks(stacks: list[Stack]) -> list[Mark]:
    """What happened to the areas of stacks. Numbers: a stack's index where it was mapped; where a
    piece of it was taken, their count, and its place in `losses` more."""
    lost = [
        Mark(stack.mm, area, end.seq, len(stacks) + n)
        for n, (stack, area, end) in enumerate(losses(stacks))
    ]
    return [*lost, *(Mark(s.mm, s.area, s.seq, i) for i, s in enumerate(stacks))]


def losses(stacks: list[Stack]) -> list[tuple[Stack, Area, Ended]]:
    """Every piece that was taken from a stack."""
    return [(stack, area, end) for stack in stacks for area, end in stack.lost]


_CUTS: Final = {"map": "mmap", "unmap": "munmap", "remap": "mremap"}


def _made(stack: Stack) -> int:
    return stack.seq


def _base(piece: tuple[Area, Stack]) -> int:
    return piece[0].base


def _steps(
    history: History,
) -> tuple[dict[int, tuple[str, int, Task | None]], dict[int, tuple[str, int]]]:
    """By the seq of a mapping: in what, when, for whom it was made; in what and when it went."""
    makers: dict[int, tuple[str, int, Task | None]] = {}
    enders: dict[int, tuple[str, int]] = {}
    for c in history.clones:
        makers |= {m.seq: ("clone", c.seq, c.child) for m in c.mapped.made}
        enders |= {m.seq: ("failed clone", c.seq) for m in c.mapped.gone if c.failed}
    for p in history.prctls:
        makers |= {m.seq: ("prctl", p.seq, p.task) for m in p.mapped.made}
        enders |= {m.seq: ("prctl", p.seq) for m in p.mapped.gone}
    for x in history.exits:
        enders |= {m.seq: ("exit", x.seq) for m in x.mapped.gone}
    for e in history.execs:
        enders |= {m.seq: ("exec", e.seq) for m in e.mapped.gone}
    return makers, enders
