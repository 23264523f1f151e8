"""The main thread's shadow stack is unmapped at its own exit, while other threads live on.

## What it checks
When the first thread of a process exits while others live, its shadow stack is unmapped like any
other thread's: the recorded range, once, before clear_child_tid and mm_dropped.

## Why it matters
The process lives as long as its last thread, and so does any memory that the main thread leaves.

## When it applies
Exits of an enabled thread group leader with a base of its own, while other threads of the group
live, that the run follows to clear_child_tid or mm_dropped. v1 to v6 violate it.

## Evidence columns
As for X1; clones.flags for the members of the thread group.

## Example
    t1 exit(0) { exit_begin 0; mm_dropped 1 }
where task 2, a thread of task 1, is alive and S1 is not unmapped.

## Not a violation when
the leader is the last of its group to exit (X1).

## How to investigate
    shstk stacks RUN
Read /proc/thread-self/smaps on a live kernel: /proc/self is empty once the leader is a zombie.

## Sources
mmu_context.h, deactivate_mm, from v7: each task's own exit calls it; seed patch, process.c,
exit_thread: "shstk_release(tsk)".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import releases
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "task_events[mm_dropped]", "mappings[shadow_stack]")
ALSO = ("task_events",)
APPLIES = "exit of a main thread with a shadow stack of its own while other threads live"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in facts.history.exits:
        if releases.case_of(facts, step) == "leader":
            yield releases.judge(facts, step)
