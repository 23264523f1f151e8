"""Whose stack is this, who allocated it, who should have freed it: the data of `shstk stacks`.

A row is a part of one allocation with one fate: what a partial munmap, a shrinking mremap or a map
over it took is a row of its own, and so is what mremap moved, at its new place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.history import Cloned, Exited, Task
from shstk.replay.derive.rows import Area
from shstk.replay.derive.stacks import Ended, Stack, joined
from shstk.replay.derive.uses import Use, Uses, uses
from shstk.replay.facts import Facts
from shstk.replay.uncollected import uncollected
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

COLUMNS: Final = (
    Column("mm", "u32?", "number", "address space"),
    Column("base", "u64", "address", "lowest address"),
    Column("size", "u64", "size", "bytes"),
    Column("top", "u64", "address", "base + size, where ssp begins"),
    Column("owner", "u32?", "pid", "the task it was made for; null: map_shadow_stack, its copies"),
    Column("ssp", "u64?", "address", "csr ssp of the task on it, then or at its last event"),
    Column(
        "how",
        "str",
        "kind",
        "clone, prctl, map_shadow_stack, fork copy or mremap; of a dump: dump, or a guess",
    ),
    Column("made_by", "u32?", "pid", "the task whose call mapped it"),
    Column("made_seq", "u64", "seq", "seq of that call"),
    Column("released_by", "u32?", "pid", "the task during whose call or exit it was unmapped"),
    Column("released_seq", "u64?", "seq", "when it was unmapped"),
    Column(
        "released_how",
        "str?",
        "kind",
        "exit, exec, prctl, failed clone, munmap, mmap, mm dropped, …",
    ),
    Column(
        "should",
        "str?",
        "text",
        "who should have unmapped it, where and why, if that did not happen",
    ),
    Column("high_water", "u64?", "size", "bytes from the top to the lowest word ever pushed"),
    Column(
        "others",
        "str?",
        "text",
        "other tasks on it, then or ever (eight of a kind at most), and how: shares (a thread on"
        " its parent's stack), borrows (vfork), inherits (fork, on the copy), pivots (a csr write"
        " of ssp), runs; of a dump: on it",
    ),
)
_TOLD: Final = 8  # others of one kind that are named
_DTYPES: Final = {"u32": "UInt32", "u64": "UInt64", "str": "String"}


@dataclass(frozen=True)
class _Part:
    """Some of a stack. gone: when it was unmapped; None: it stands."""

    stack: Stack
    area: Area
    gone: int | None

    def stood(self, seq: int) -> bool:
        return self.stack.seq <= seq and (self.gone is None or seq < self.gone)


def _told(tids: list[str], how: str) -> str:
    """`101 shares`, `101, 102 share`; the first ones only of many: the view `stays` has all."""
    more = len(tids) - _TOLD
    names = ", ".join(tids[:_TOLD]) + (f" and {more} more" if more > 0 else "")
    return f"{names} {how if len(tids) == 1 else how.removesuffix('s')}"


@uncollected()
def stacks(run: Run, at: int | None = None, addr: int | None = None) -> pl.DataFrame:
    """Every shadow stack of a run, by intent's words; columns of COLUMNS, in order of making.

    at: only what stood just after that seq, as far as was known then. addr: only those that hold
    the address, or if there are none, those that end at it.
    """
    facts = Facts(run, run.row, "intent")
    told = _Told(facts, at)
    parts = [part for stack in facts.stacks for part in _parts(stack, at)]
    chosen = parts
    if addr is not None:
        chosen = [p for p in parts if p.area.holds(addr)] or [
            p for p in parts if p.area.top == addr
        ]
    schema = {c.name: getattr(pl, _DTYPES[c.base]) for c in COLUMNS}
    return pl.DataFrame([told.row(part) for part in chosen], schema=schema, orient="row")


def _parts(stack: Stack, at: int | None) -> Iterator[_Part]:
    if at is not None:
        yield from (_Part(stack, area, None) for area in stack.standing(at))
        return
    fates: dict[int | None, list[Area]] = {}
    for area, seq in stack.origin.lost:
        fates.setdefault(seq, []).append(area)
    fates[None] = [r.area for r in stack.origin.regions if r.to_seq is None]
    found = [_Part(stack, area, seq) for seq, areas in fates.items() for area in joined(areas)]
    yield from sorted(found, key=lambda part: part.area.base)


class _Told:
    """What a run tells of each part up to a time."""

    def __init__(self, facts: Facts, at: int | None) -> None:
        self._facts = facts
        self._at = at
        self._uses: Uses = uses(facts, at)
        self._on: dict[Stack, list[Use]] = {}
        for use in self._uses.uses:
            self._on.setdefault(use.stack, []).append(use)
        self._exits: dict[Task, list[Exited]] = {}
        for step in facts.history.exits:
            if self._known(_end(step)):
                self._exits.setdefault(step.task, []).append(step)
        self._failed: dict[int, Cloned] = {
            c.seq: c
            for c in facts.history.clones
            if c.failed and not c.mapped.gone and self._known(c.row.seq_end)
        }

    def row(self, part: _Part) -> tuple[Any, ...]:
        stack, area = part.stack, part.area
        end = self._facts.ledger.ended(part.gone) if part.gone is not None else None
        lowest = [addr for addr in self._uses.pushed.get(stack, ()) if area.holds(addr)]
        return (
            stack.mm,
            area.base,
            area.size,
            area.top,
            stack.owner.tid if stack.owner else None,
            self._ssp(part),
            stack.how,
            stack.by,
            stack.step,
            end.by if end else None,
            end.seq if end else None,
            end.how if end else None,
            self._should(part, end),
            area.top - min(lowest) if lowest else None,
            self._others(part),
        )

    def _known(self, seq: int | None) -> bool:
        return self._at is None or (seq is not None and seq <= self._at)

    def _here(self, task: Task) -> bool:
        """Whether a task still lives at the time asked for."""
        return self._at is None or task.lives(self._at)

    def _ssp(self, part: _Part) -> int | None:
        """Of the tasks whose ssp was last in this part: the owner, a living one, the last."""
        found: list[tuple[bool, bool, int, int]] = []
        for use in self._on.get(part.stack, ()):
            last = self._uses.last.get(use.task)
            if last is None or last.stack is not part.stack or not self._here(use.task):
                continue
            inside = part.area.holds(last.ssp) or (
                part.area.top == last.ssp and not self._stands(part.stack, last.ssp, last.seq)
            )
            if inside and (part.stood(last.seq) or last.seq < part.stack.seq):
                lives = use.task.exit_seq is None
                found.append((use.how == "owns", lives, last.seq, last.ssp))
        return max(found)[-1] if found else None

    def _stands(self, stack: Stack, address: int, seq: int) -> bool:
        return any(area.holds(address) for area in stack.standing(seq))

    def _others(self, part: _Part) -> str | None:
        found: dict[str, list[str]] = {}
        for use in self._on.get(part.stack, ()):
            if use.how == "owns" or (part.gone is not None and use.seq >= part.gone):
                continue
            last = self._uses.last.get(use.task)
            here = self._here(use.task) and last is not None and last.stack is part.stack
            if self._at is None or here:
                found.setdefault(use.how, []).append(str(use.task.tid))
        return "; ".join(_told(tids, how) for how, tids in found.items()) or None

    def _should(self, part: _Part, end: Ended | None) -> str | None:
        """The step that should have unmapped it before, if there was one."""
        stack, owner = part.stack, part.stack.owner
        kernels = end is not None and end.how in ("exit", "prctl", "failed clone", "exec")
        if end and owner and kernels and (end.how == "failed clone" or owner.tid != end.by):
            return f"task {owner.tid}'s own exit: task {end.by} took it away"
        if clone := self._failed.get(stack.step):
            return f"task {clone.row.tid}'s failed clone: no child came to own it"
        for step in self._exits.get(owner, ()) if owner else ():
            due = step.releases is not None and step.releases.overlaps(part.area)
            if due and part.stood(step.seq) and step.complete and not step.mapped.gone:
                return f"task {step.task.tid}'s exit: its own, recorded base and size"
        return None


def _end(step: Exited) -> int | None:
    """When an exit had come to where its release must have been."""
    mark = step.cleared or step.dropped
    return mark.seq if mark else None
