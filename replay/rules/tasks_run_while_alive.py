"""Instructions run in a live, scheduled task and in its own address space.

## What it checks
A task runs instructions after it first enters user mode and before it begins to exit, in the
address space of its last task event, and while it is the task that was switched to. The same holds
for its calls.

## Why it matters
A row with another task's tid would attribute its pushes to that task.

## When it applies
Every recorded run of a program. Handwritten runs are exempt. The scheduled task is only compared if
sched was recorded.

## Evidence columns
tid, mm of cfi, flow, insn and syscalls; task_events.kind, mm; sched.tid, from_tid.

## Example
    flow rows of task 2 after its exit_begin

## Not a violation when
the tid was reused by another task: that is another life.

## How to investigate
    shstk query RUN "SELECT * FROM task_events WHERE tid = <tid> ORDER BY seq"

## Sources
docs/schema.md, task_events, sched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final

import polars as pl

from shstk.replay.facts import Facts, gather_trail
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.schemas import seq as positions
from shstk.schemas.tables import TRACES

# Events after which a task runs: its first return to user mode, an exec, and wakeups by it.
_AT_WORK: Final = ("first_user", "exec_done", "futex_wake", "vfork_done")

NEEDS = (
    "task_events",
    "syscalls.tid",
    "syscalls.mm",
    "cfi.tid",
    "cfi.mm",
    "flow.tid",
    "flow.mm",
    "insn.tid",
    "insn.mm",
    "sched.tid",
)
APPLIES = "instruction or call of a recorded run"
GATHERS = (gather_trail,)
_TURN: Final = ("seq", "last", "tid", "mm")


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    calls = facts.run.scan("syscalls").filter(pl.col("outcome").cast(pl.String) != "loader")
    rows = pl.concat(
        [
            *(_turns(facts, name) for name in TRACES),
            calls.select(
                table=pl.lit("syscalls"), seq="seq", last="seq", tid="tid", mm="mm"
            ).collect(),
        ]
    ).sort("seq")
    running = _running(facts)
    for row in rows.iter_rows(named=True):
        yield _alive(facts, row) or running(row) or OK


def _turns(facts: Facts, table: str) -> pl.DataFrame:
    return facts.trail(table).turns.select(pl.lit(table).alias("table"), *_TURN)


def _alive(facts: Facts, row: dict[str, Any]) -> Finding | None:
    last = facts.events.last(row["tid"], row["seq"])
    what = f"rows of {row['table']} of task {row['tid']}"
    if last is None or last.kind not in _AT_WORK:
        actual = "it was never created" if last is None else f"its last event was {last.kind}"
        return trace.odd(row, "a running task", actual, what)
    if last.mm != row["mm"]:
        return trace.odd(row, f"mm {last.mm}", f"mm {row['mm']}", what, evidence=(last.seq,))
    single = row["last"] == row["seq"]  # as all calls are, and most turns of cfi
    later = () if single else facts.events.of(row["tid"], row["seq"], row["last"] - 1)
    ended = next((e for e in later if e.kind in ("exit_begin", "created")), None)
    if ended:
        return trace.odd(row, f"none after its {ended.kind}", "some", what, evidence=(ended.seq,))
    return None


def _running(facts: Facts) -> Callable[[dict[str, Any]], Finding | None]:
    """Compare the task with sched at both ends of its rows; another may have died in between."""
    switches = facts.run.table("sched").select("seq", "tid").rows()
    if switches:  # a thread's exec continues with its leader's tid
        switches += [(e.seq, e.tid) for e in facts.events if e.kind == "exec_done"]
        switches.sort()
    times = [seq for seq, _ in switches]

    def judge(row: dict[str, Any]) -> Finding | None:
        for end in sorted({row["seq"], row["last"]}):
            to = switches[max(bisect_right(times, end) - 1, 0)][1] if times else row["tid"]
            if to != row["tid"]:
                what = f"rows of {row['table']} at {positions.show(end)}"
                return trace.odd(row, f"task {to}, by sched", f"task {row['tid']}", what)
        return None

    return judge
