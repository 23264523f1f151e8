"""What the tables of a run know about places: who ran when, and what happens at which place.

A debugger need not execute anything to find the next signal, call, fork or exit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import CLONE_THREAD, CLONE_VFORK

if TYPE_CHECKING:
    from shstk.replay.run import Run

# Kinds of events, in the order in which those of one place are reported.
SIGNAL, CALL, RETURN, FORK, VFORK, VFORK_DONE, EXEC, UNEXEC, EXIT = range(9)
# Those that a way back stops at, and a way forward. UNEXEC: back in the program before an exec.
BACKWARD: Final = frozenset({SIGNAL, CALL, RETURN, UNEXEC})
FORWARD: Final = frozenset({SIGNAL, CALL, RETURN, FORK, VFORK, VFORK_DONE, EXEC, EXIT})


@dataclass(frozen=True, order=True)
class Event:
    """Something that gdb may want to stop at.

    place: where to stop: before the instruction for a signal, a call or UNEXEC, after it for the
    others.
    number: the signal, the system call, the new pid, or the wait status.
    """

    place: int
    kind: int
    tid: int
    number: int = 0


class Schedule:
    """Which task each instruction is of, from the rows of sched."""

    def __init__(self, run: Run) -> None:
        self._end = run.manifest.icount
        self._starts: list[int] = []  # the place where a task begins to run
        self._tids: list[int] = []
        for seq, tid in run.table("sched").select("seq", "tid").iter_rows():
            if self._starts and self._starts[-1] == seq // STEPS:
                self._tids[-1] = tid
            else:
                self._starts.append(seq // STEPS)
                self._tids.append(tid)
        self._turns: dict[int, list[int]] = {}  # tid → its indices
        for i, tid in enumerate(self._tids):
            self._turns.setdefault(tid, []).append(i)

    def next(self, tid: int, place: int) -> int | None:
        """The place after the next instruction of a task; None: it has no more."""
        now = bisect_right(self._starts, place) - 1
        if now >= 0 and self._tids[now] == tid:
            return place + 1 if place < self._end else None
        turns = self._turns.get(tid, [])
        at = bisect_right(turns, now)
        if at == len(turns) or self._starts[turns[at]] >= self._end:
            return None
        return self._starts[turns[at]] + 1

    def before(self, tid: int, place: int) -> int | None:
        """The place before the last instruction of a task; None: it had none."""
        now = bisect_left(self._starts, place) - 1
        if now >= 0 and self._tids[now] == tid:
            return place - 1
        turns = self._turns.get(tid, [])
        at = bisect_left(turns, now) - 1
        return self._starts[turns[at] + 1] - 1 if at >= 0 else None


class Record:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.schedule = Schedule(run)
        self.end = run.manifest.icount - self._ends_in_a_call()
        self.first_pid: int = run.table("sched")["tid"][0]
        self._pids: dict[int, int] = {self.first_pid: self.first_pid}
        self._born = {self.first_pid: 0}
        self._forks: list[Event] = []
        for row in self._rows("clones", pl.col("child_tid").is_not_null()):
            self._clone(row)
        self._events = sorted([*self._signals(), *self._forks, *self._execs(), *self._exits()])

    def pid(self, tid: int) -> int:
        """The process of a task."""
        return self._pids.get(tid, tid)

    def born(self, pid: int) -> int:
        """The first place where a process exists."""
        return self._born.get(pid, 0)

    def last(self, pid: int) -> int:
        """The last place where a process has a task that lives."""
        return self._ends[pid].place - 1 if pid in self._ends else self.end

    def events(self, calls: frozenset[int] | None) -> list[Event]:
        """In order, with those of system calls if gdb catches some (empty: all of them)."""
        if calls is None:
            return self._events
        if calls not in self._with_calls:
            chosen = [e for e in self._calls if not calls or e.number in calls]
            self._with_calls = {calls: sorted([*self._events, *chosen])}
        return self._with_calls[calls]

    def call_ends(self, place: int) -> int | None:
        """The place where the call ends whose ecall is the last instruction before `place`; None:
        never."""
        rows = self.run.table("syscalls")
        first = int(rows["seq"].search_sorted(place * STEPS))
        ended = rows["seq_end"][first] if first < rows.height else None
        return None if ended is None else int(ended) // STEPS

    def _ends_in_a_call(self) -> bool:
        """Whether the last instruction is an ecall that has not returned: perhaps it never does."""
        rows = self.run.table("syscalls")
        if rows.is_empty():
            return False
        last = rows.row(-1, named=True)
        return last["seq"] // STEPS == self.run.manifest.icount and last["seq_end"] is None

    def fault(self, place: int, tid: int) -> dict[str, Any] | None:
        """The row of the exception that the instruction after a place raises."""
        return self._one("faults", place, tid)

    def signal(self, place: int, tid: int) -> dict[str, Any] | None:
        """The row of the signal that a task takes after that instruction."""
        return self._one("signals", place, tid)

    def _one(self, table: str, place: int, tid: int) -> dict[str, Any] | None:
        first, last = (place + 1) * STEPS, (place + 2) * STEPS
        here = (pl.col("seq") >= first) & (pl.col("seq") < last) & (pl.col("tid") == tid)
        return next(self._rows(table, here & pl.col("signo").is_not_null()), None)

    def _rows(self, table: str, wanted: pl.Expr) -> Any:
        return self.run.table(table).filter(wanted).iter_rows(named=True)

    def _clone(self, row: dict[str, Any]) -> None:
        parent, child, flags = row["tid"], row["child_tid"], row["flags"]
        if flags & CLONE_THREAD:
            self._pids[child] = self.pid(parent)
            return
        place = row["seq"] // STEPS
        self._pids[child] = child
        self._born[child] = place
        kind = VFORK if flags & CLONE_VFORK or row["api"] == "vfork" else FORK
        self._forks.append(Event(place, kind, parent, child))

    def _signals(self) -> Iterable[Event]:
        taken = pl.col("kind").is_in(["delivery", "fatal"]) & (pl.col("seq") >= STEPS)
        for row in self._rows("signals", taken):
            yield Event(row["seq"] // STEPS - 1, SIGNAL, row["tid"], row["signo"])

    def _execs(self) -> Iterable[Event]:
        done = (pl.col("kind") == "exec_done") & (pl.col("status") == 0)
        for row in self._rows("task_events", done & (pl.col("seq") >= STEPS)):
            place, pid = row["seq"] // STEPS, self.pid(row["tid"])
            yield Event(place, EXEC, pid)
            yield Event(place - 1, UNEXEC, pid)
        for row in self._rows("task_events", pl.col("kind") == "vfork_done"):
            yield Event(row["seq"] // STEPS, VFORK_DONE, row["value"])

    @cached_property
    def _ends(self) -> dict[int, Event]:
        """The exit of the last task of each process that has none at the end."""
        begun = {
            row["tid"]: row for row in self._rows("task_events", pl.col("kind") == "exit_begin")
        }
        ended = self.run.manifest.ending in ("exited", "killed")
        living = set() if ended else {self.pid(tid) for tid in self._pids if tid not in begun}
        ends: dict[int, Event] = {}
        for tid, row in begun.items():
            if (pid := self.pid(tid)) not in living:
                ends[pid] = Event(row["seq"] // STEPS, EXIT, pid, row["status"] or 0)
        return ends

    def _exits(self) -> Iterable[Event]:
        return self._ends.values()

    @cached_property
    def _calls(self) -> list[Event]:
        found = []
        rows = self.run.table("syscalls").filter(pl.col("seq") >= STEPS)
        for seq, end, tid, nr in rows.select("seq", "seq_end", "tid", "nr").iter_rows():
            found.append(Event(seq // STEPS - 1, CALL, tid, nr))
            if end is not None:
                found.append(Event(end // STEPS, RETURN, tid, nr))
        return found

    @cached_property
    def _with_calls(self) -> dict[frozenset[int], list[Event]]:
        return {}
