"""Which tasks were on which shadow stack: how each came there, how deep it went, where it was last.

A task is on a stack once it pushes or pops there, or its ssp is moved there by anything else: its
first return to user mode, a csr write, a call, a sigreturn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.history import Task
from shstk.replay.derive.pieces import pieces
from shstk.replay.derive.ssp_path import other_events
from shstk.replay.derive.stacks import Stack
from shstk.schemas.uapi import PAGE

if TYPE_CHECKING:
    from shstk.replay.facts import Facts

_END: Final = 2**64 - 1
_ROWS: Final = 500_000  # at a time: each is joined several times
_COLUMNS: Final = ("seq", "tid", "mm", "kind", "addr", "ssp_before", "ssp_after", "fault")
# How a task is on a stack that is not its own, if it began there; by how it was made.
_BEGAN: Final = {"vfork": "borrows", "fork": "inherits"}


@dataclass(frozen=True, slots=True)
class Use:
    """A task on a stack since seq.

    how: owns, shares (a thread that was made on its parent's stack), borrows (a vfork child),
    inherits (a fork child, on the copy), pivots (by a csr write), runs (any other way) or on it (in
    a dump, which does not tell how).
    """

    seq: int
    task: Task
    stack: Stack
    how: str


@dataclass(frozen=True, slots=True)
class Last:
    """The last event that told a task's ssp, and the stack that it was on."""

    seq: int
    ssp: int
    stack: Stack | None


@dataclass
class Uses:
    """uses: by seq. last: of every task. pushed: by stack, the lowest word pushed on each page."""

    uses: list[Use] = field(default_factory=list)
    last: dict[Task, Last] = field(default_factory=dict)
    pushed: dict[Stack, list[int]] = field(default_factory=dict)


def uses(facts: Facts, until: int | None = None) -> Uses:
    """What the run tells up to a seq (None: its end)."""
    return _Walk(facts, _END if until is None else until).run()


class _Walk:
    def __init__(self, facts: Facts, until: int) -> None:
        self._facts = facts
        self._until = until
        self._came: dict[tuple[Task, Stack], tuple[int, str]] = {}
        self._ssp: dict[Task, tuple[int, int | None, int]] = {}  # seq, mm, ssp
        self._at_work: dict[Task, dict[Stack, int]] = {}  # when it last pushed or popped there
        self._pushed: dict[tuple[Stack, int], int] = {}  # by page
        # the calls that move ssp are told at their entry
        calls = [(p.seq, p.row.seq_end) for p in facts.history.prctls]
        self._returns = {seq: end for seq, end in calls if end is not None and end <= until}
        lives = [(t.tid, t.born) for t in facts.history.tasks]
        self._lives = pl.DataFrame(
            lives, schema={"tid": pl.UInt32, "born": pl.UInt64}, orient="row"
        ).sort("born")

    def run(self) -> Uses:
        events = other_events(self._facts.run, self._until)
        rows = pl.concat(events).filter(pl.col("seq") <= self._until)
        self._arrivals(rows.collect())
        for piece in pieces(self._facts.run, *_COLUMNS, rows=_ROWS):
            if piece.after >= self._until:
                break
            cfi = piece.rows.filter(pl.col("seq") <= self._until)
            cfi = cfi.with_columns(pl.col("kind").cast(pl.String))
            self._pushes(cfi.filter(pl.col("fault").is_null()))
            self._arrivals(cfi.select("seq", "tid", "mm", "ssp_before", "ssp_after", cause="kind"))
        self._dumped()
        found = Uses(last={task: self._last(task) for task in self._ssp})
        for (stack, _), addr in self._pushed.items():
            found.pushed.setdefault(stack, []).append(addr)
        for (task, stack), (seq, cause) in self._came.items():
            found.uses.append(Use(seq, task, stack, _how(task, stack, cause)))
        found.uses.sort(key=lambda use: use.seq)
        return found

    def _dumped(self) -> None:
        """What stands on the stacks of a dump was pushed, below ssp too."""
        rows = self._facts.run.table("dump_memory").drop_nulls("bytes")
        for addr, data in rows.select("addr", "bytes").iter_rows():
            used = len(data) - len(data.lstrip(b"\0"))
            for stack in self._facts.stacks:
                if used < len(data) and stack.area.holds(addr):
                    key = (stack, addr // PAGE)
                    self._pushed[key] = (addr + used) & -8

    def _living(self, rows: pl.DataFrame) -> pl.DataFrame:
        """With born: which life of its tid a row is of."""
        return rows.sort("seq").join_asof(
            self._lives,
            left_on="seq",
            right_on="born",
            by="tid",
            coalesce=False,
            check_sortedness=False,
        )

    def _pushes(self, cfi: pl.DataFrame) -> None:
        done = cfi.filter(pl.col("kind").is_in(["sspush", "sspopchk"]))
        marked = self._facts.ledger.marked(self._living(done))
        pushed = pl.col("addr").filter(pl.col("kind") == "sspush")
        groups = (
            marked.filter(pl.col("mark").is_not_null() & pl.col("gone").is_null())
            .group_by("tid", "born", "mark", page=pl.col("addr") // PAGE)
            .agg(pl.col("seq").min(), pl.col("seq").max().alias("last"), pushed.min())
        )
        for tid, _, mark, page, seq, last, lowest in groups.sort("seq").iter_rows():
            task, stack = self._facts.history.task(tid, seq), self._facts.stacks[mark]
            if lowest is not None:
                key = (stack, page)
                self._pushed[key] = min(lowest, self._pushed.get(key, lowest))
            if task:
                self._come(task, stack, seq, "push")
                here = self._at_work.setdefault(task, {})
                here[stack] = max(last, here.get(stack, last))

    def _arrivals(self, rows: pl.DataFrame) -> None:
        """rows: columns of ssp_path."""
        told = self._living(rows.filter(pl.col("ssp_after").is_not_null()))
        ends = told.group_by("tid", "born").agg(pl.col("seq", "mm", "ssp_after").last())
        for tid, _, seq, mm, ssp in ends.iter_rows():
            task = self._facts.history.task(tid, seq)
            if task and seq > self._ssp.get(task, (-1,))[0]:
                self._ssp[task] = seq, mm, ssp
        moved = told.filter(
            pl.col("ssp_before").ne_missing(pl.col("ssp_after"))
            & ~pl.col("cause").is_in(["sspush", "sspopchk"])
            & (pl.col("ssp_after") != 0)
        )
        where = self._marked(self._marked(moved, "below", -1), "here", 0)
        keys = pl.coalesce("below", "here").alias("mark")
        groups = where.group_by("tid", "born", "cause", keys).agg(pl.col("seq").min())
        for tid, _, cause, mark, seq in groups.iter_rows():
            task = self._facts.history.task(tid, seq)
            if task and mark is not None:
                self._come(task, self._facts.stacks[mark], seq, cause)

    def _marked(self, rows: pl.DataFrame, name: str, offset: int) -> pl.DataFrame:
        """With the number of the stack that stands at ssp + offset, once a call has returned."""
        seq = pl.col("seq").replace(self._returns) + 1
        asked = rows.with_columns(
            at=pl.col("seq"), seq=seq, addr=(pl.col("ssp_after").cast(pl.Int128) + offset)
        ).with_columns(pl.col("addr").cast(pl.UInt64))
        found = self._facts.ledger.marked(asked)
        stands = pl.when(pl.col("gone").is_null()).then("mark").alias(name)
        return found.with_columns(stands, seq="at").drop("at", "addr", "mark", "gone")

    def _come(self, task: Task, stack: Stack, seq: int, cause: str) -> None:
        known = self._came.get((task, stack))
        if known is None or seq < known[0]:
            self._came[task, stack] = seq, cause

    def _last(self, task: Task) -> Last:
        """Between two stacks a task is on the one where it last pushed or popped."""
        seq, mm, ssp = self._ssp[task]
        ledger, work = self._facts.ledger, self._at_work.get(task, {})
        time = self._returns.get(seq, seq) + 1
        stack, above = ledger.on(mm, ssp, time), ledger.at(mm, ssp, time)
        if stack and above and work.get(above, -1) > work.get(stack, -1):
            stack = above
        return Last(seq, ssp, stack)


def _how(task: Task, stack: Stack, cause: str) -> str:
    if stack.owner is task:
        return "owns"
    if cause == "dump":
        return "on it"
    if cause == "first_user":
        return _BEGAN.get(task.how, "shares")
    return "pivots" if cause == "ssp_write" else "runs"
