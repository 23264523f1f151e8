"""Who stops running is who was switched to last.

## What it checks
from_tid of a switch is the task that the switch before went to, and none at the first. Who stopped
because it exited has begun to; who stopped because it blocked is in a call or stopped by a signal;
and every switch tells the hash of the state that goes on.

## Why it matters
One interleaving is what a run is: from it follows which push came before which.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
sched.from_tid, tid, why, state_hash; task_events exit_begin.

## Example
    switch from task 3 to task 2, where task 1 ran

## Not a violation when
the task that ran has ended: it is still the one that ran before.

## How to investigate
    shstk query RUN "SELECT * FROM sched ORDER BY seq"

## Sources
docs/schema.md, sched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Outcome

NEEDS = ("sched",)
APPLIES = "switch of a recorded run"

# Of a life: a thread's exec goes on under the tid of its leader, who has exited before it.
_BEGINNINGS: Final = ("created", "exec_done")


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    ran: int | None = None
    renamed: dict[int | None, int] = {e.task.tid: e.heir.tid for e in facts.history.execs}
    for row in facts.run.table("sched").iter_rows(named=True):
        if renamed.get(ran) == row["from_tid"]:
            ran = row["from_tid"]  # a thread's exec goes on under its leader's tid
        expected = _expected(facts, row, ran)
        ran = row["tid"]
        if expected is None:
            yield OK
        else:
            actual = f"from task {row['from_tid']}, {row['why']}, state {row['state_hash']}"
            yield trace.odd(row, expected, actual, f"the switch to task {row['tid']}")


def _expected(facts: Facts, row: dict[str, Any], ran: int | None) -> str | None:
    """What the row should have said; None if it does."""
    if row["from_tid"] != ran or row["tid"] == ran:
        return f"from task {ran} to another"
    if (row["why"] == "start") != (ran is None):
        return "start, exactly at the first switch"
    if row["state_hash"] is None:
        return "a state hash"
    steps = facts.events.of(ran, -1, row["seq"])
    kinds = [e.kind for e in steps]
    begun = max((i for i, kind in enumerate(kinds) if kind in _BEGINNINGS), default=0)
    if ran is not None and (row["why"] == "exited") != ("exit_begin" in kinds[begun:]):
        return "exited, exactly if the task has begun to exit"
    return None
