"""Pushes by one task on a shadow stack where another task has frames that it has yet to pop."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.history import Cloned, History, Task
from shstk.replay.derive.law import Law
from shstk.replay.derive.legs import with_legs
from shstk.replay.derive.lives import births, with_life
from shstk.replay.derive.stacks import Ledger, Stack

if TYPE_CHECKING:
    from shstk.replay.run import Run


_OF_BRIEF: Final = ("count", "last", "lowest", "highest")
_PUSHES: Final = ("seq", "tid", "mm", "addr", "mark", "last", "highest")


@dataclass(frozen=True, slots=True)
class Clash:
    """The first push of `tid` on a stack where `other` has frames, the last pushed at other_seq."""

    stack: Stack
    seq: int
    tid: int
    addr: int
    other: Task
    other_seq: int
    other_ssp: int


@dataclass(frozen=True, slots=True)
class _Pushed:
    """A task's pushes on a stack: the last one, and the highest one."""

    last: int  # seq
    highest: int  # address; the frame there is live while the task's ssp is at or below it


def pushes(run: Run, ledger: Ledger) -> Gather[tuple[int, list[pl.DataFrame]]]:
    """The number of pushes on known stacks, and who pushed there in turn (_turns)."""
    count, turns = 0, []
    born = births(run)
    while piece := (yield):
        legs, others = on_stacks(piece.brief.filter(pl.col("kind") == "sspush"), ledger, born)
        count += total(legs) + total(others)
        told = pl.concat([legs.select(_PUSHES), others.select(_PUSHES)]).sort("seq")
        turns.append(_turns(with_life(run, told.lazy()).collect()))
    return count, turns


def clashes(
    turns: Iterable[pl.DataFrame], history: History, ledger: Ledger, law: Law, path: pl.DataFrame
) -> list[Clash]:
    """The first clash of each intruder on each stack.

    path: the stretches of ssp (derive/ssp_path.py).
    The task that does not own the stack is the intruder; if neither does, the later one is.
    """
    found: dict[tuple[int, Task | None], Clash] = {}  # (stack, intruder)
    excuses, places = _Excuses(history, law), _Places(path)
    by: dict[int, dict[Task | None, _Pushed]] = {}  # stack, then task, in all pieces so far
    for some in turns:
        for mark, tid, seq, addr, last, highest in some.iter_rows():
            stack, here = ledger.stacks[mark], by.setdefault(mark, {})
            task = history.task(tid, seq)
            for other, theirs in list(here.items()):
                if other is task or other is None or task is None:
                    continue
                if not other.lives(seq):
                    del here[other]  # what the dead pushed, nobody pops
                    continue
                key = (mark, other if stack.owner is task else task)
                before = found.get((mark, other))
                if key in found or (before and before.other is task):
                    continue
                ssp = places.ssp(other.tid, stack.mm, seq)
                live = ssp is not None and stack.area.base <= ssp <= theirs.highest
                if live and not excuses.hold(stack, task, other, seq, theirs.last):
                    found[key] = Clash(stack, seq, tid, addr, other, theirs.last, ssp or 0)
            mine = here.get(task)
            here[task] = _Pushed(last, max(highest, mine.highest if mine else 0))
    return list(found.values())


def _turns(pushes: pl.DataFrame) -> pl.DataFrame:
    """Runs of pushes by one task on a stack: the first, the last and the highest of each."""
    task = pl.struct("tid", "life")
    turn = (task != task.shift()).fill_null(True).cum_sum().over("mark")
    return (
        pushes.sort("mark", "seq")
        .with_columns(turn=turn)
        .group_by("mark", "turn")
        .agg(
            pl.col("tid", "seq", "addr").first(),
            pl.col("last", "highest").max(),
        )
        .sort("seq")
        .select("mark", "tid", "seq", "addr", "last", "highest")
    )


class _Places:
    """Each task's ssp over time."""

    def __init__(self, path: pl.DataFrame) -> None:
        """path: sorted by tid and seq."""
        self._path = path

    def ssp(self, tid: int, mm: int | None, seq: int) -> int | None:
        """A task's ssp at seq, if it is known and the task is in this address space."""
        path = self._path
        low, high = (path["tid"].search_sorted(tid, side=side) for side in ("left", "right"))
        at = low + path["seq"][low:high].search_sorted(seq, side="right")
        if at == low or path["mm"][at - 1] != mm:
            return None
        ssp: int | None = path["ssp_after"][at - 1]
        return ssp


def on_stacks(
    rows: pl.DataFrame, ledger: Ledger, times: pl.Series | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of cfi in brief that are on a stack, with mark and gone (Ledger.marked): first the
    legs that are wholly on one that stands, then the single rows of other legs.

    A leg has the columns of its first row, and count, last, lowest and highest as a row has them.
    times: seqs at which legs end, beside those at which a stack changes.
    """
    ends = ledger.times if times is None else pl.concat([ledger.times, times]).unique().sort()
    named = with_legs(rows.select("seq", "tid", "mm", "addr", "fault", *_OF_BRIEF), ends)
    legs = named.group_by("leg", maintain_order=True).agg(
        pl.col("seq", "tid", "mm", "addr", "fault").first(),
        pl.col("count").cast(pl.UInt64).sum(),
        pl.col("lowest").min(),
        pl.col("last", "highest").max(),
    )
    alike = legs.filter(ledger.same(legs["lowest"], legs["highest"]))
    marked = ledger.marked(alike)
    whole = marked.filter(pl.col("gone").is_null())
    rest = named.join(whole.select("leg"), on="leg", how="anti", maintain_order="left")
    return (
        whole.filter(pl.col("mark").is_not_null()),
        ledger.marked(rest).filter(pl.col("mark").is_not_null()),
    )


def total(rows: pl.DataFrame) -> int:
    """How many rows of cfi some of on_stacks are."""
    return int(rows["count"].cast(pl.UInt64).sum())


class _Excuses:
    """Why two tasks may be on one stack."""

    def __init__(self, history: History, law: Law) -> None:
        self._placed: dict[Task, int] = {}  # threads that the law leaves there: their first ssp
        self._parents: dict[Task, list[Cloned]] = {}  # their vforks, by seq
        self._children: dict[Task, Cloned] = {}  # by vfork
        for c in history.clones:
            shares = c.kind == "thread" and not law.opens(c.before.enabled) and not c.mapped.stack
            if shares and c.before.enabled and c.child and c.first_ssp is not None:
                self._placed[c.child] = c.first_ssp
            if c.kind == "vfork":
                self._parents.setdefault(c.parent, []).append(c)
                if c.child:
                    self._children[c.child] = c

    def hold(self, stack: Stack, mine: Task, theirs: Task, seq: int, pushed: int) -> bool:
        """Whether the other task was not yet there, or is suspended in vfork or was the child of
        one that is over, or the law put one of them there."""
        placed = self._placed
        if theirs.born > pushed or any(
            task in placed and stack.area.holds(placed[task] - 1) for task in (mine, theirs)
        ):
            return True
        vforks, made = self._parents.get(theirs, []), self._children.get(theirs)
        passed = bisect_left(vforks, seq, key=lambda c: c.seq)
        waits = passed > 0 and not _over(vforks[passed - 1], seq)
        return waits or (made is not None and _over(made, seq))


def _over(vfork: Cloned, seq: int) -> bool:
    return vfork.row.seq_end is not None and seq > vfork.row.seq_end
