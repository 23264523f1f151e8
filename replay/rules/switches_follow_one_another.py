"""Each context switch is from the task that the previous one switched to.

## What it checks
from_tid of a switch is the task that the previous switch went to, and null at the first. A task
that stops running with why exited has begun to exit, and no other has: the model ends a task in one
go. On a real kernel a task can be preempted, or wait, while it exits.

## Why it matters
A run is one interleaving, which determines the order of pushes.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
sched.from_tid, tid, why; task_events exit_begin.

## Example
    switch from task 3 to task 2, where task 1 was running

## Not a violation when
the task that ran has ended: the switch is still from it.

## How to investigate
    shstk query RUN "SELECT * FROM sched ORDER BY seq"

## Sources
docs/schema.md, sched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Outcome

NEEDS = ("sched", "task_events.tid")
APPLIES = "context switch of a recorded run"


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    ran: int | None = None
    since = 0
    for row in facts.run.table("sched").iter_rows(named=True):
        ran = _renamed(facts, ran, since, row["seq"])
        since = row["seq"]
        expected = _expected(facts, row, ran)
        ran = row["tid"]
        if expected is None:
            yield OK
        else:
            actual = f"from task {row['from_tid']}, {row['why']}, state {row['state_hash']}"
            yield trace.odd(row, expected, actual, f"the switch to task {row['tid']}")


def _renamed(facts: Facts, tid: int | None, since: int, until: int) -> int | None:
    """The task's tid after `until`: a thread's exec continues with its leader's tid."""
    execs = facts.history.execs
    low, high = (bisect_right(execs, at, key=lambda step: step.seq) for at in (since, until - 1))
    for step in execs[low:high]:
        if step.task.tid == tid:
            tid = step.heir.tid
    return tid


def _expected(facts: Facts, row: dict[str, Any], ran: int | None) -> str | None:
    """The expected content of the row; None if it is correct."""
    if row["from_tid"] != ran or row["tid"] == ran:
        return f"from task {ran} to another"
    if (row["why"] == "start") != (ran is None):
        return "start at the first switch and no other"
    task = facts.history.task(ran, row["seq"])
    exiting = task is not None and task.exit_seq is not None and task.exit_seq <= row["seq"]
    if ran is not None and row["why"] == "exited" and not exiting:
        return "exited only if the task has begun to exit"
    if exiting and row["why"] != "exited" and not facts.run.manifest.provenance.real:
        return "exited, for the task has begun to exit"
    return None
