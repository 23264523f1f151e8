"""An exiting task's own shadow stack is unmapped once, before others learn of the exit.

## What it checks
When a task exits that is enabled and has a base of its own, exactly the recorded range is unmapped
exactly once: after exit_begin and the robust futexes, before clear_child_tid is written and its
futex woken, before the vfork parent wakes, and before the address space is dropped.

## Why it matters
Later is too late: the task that joins the thread may start a new one while the old stack is still
mapped. Never means a leak of one shadow stack per thread, which exhausts the memory of a server
that keeps making threads.

## When it applies
Every exit, by exit, exit_group or a fatal signal, that the run follows to clear_child_tid or
mm_dropped. v1 to v6 violate it: their release is in exit_thread, where current->mm is already NULL.
X8 covers the main thread's exit while other threads live. X7 covers a task that left its stack, or
whose stack was replaced by another mapping.

## Evidence columns
task_events.kind exit_begin, robust_done, clear_child_tid, vfork_done, mm_dropped; mappings.op
unmap, start, length by the same tid between them; the task's clone or prctl for base and size.

## Example
    t2 exit(0) { exit_begin 0; clear_child_tid TID; futex_wake TID 1; mm_dropped 1 }
Nothing is unmapped: task 2's stack stays until the address space is freed.

## Not a violation when
the shadow stack is disabled (X2) or not the task's own (X3). An unmap that results from mm_dropped
is not a release.

## How to investigate
    shstk stacks RUN <base>
    shstk log RUN --around <seq of exit_begin> -C 20

## Sources
mmu_context.h, deactivate_mm, from v7; seed patch, process.c, exit_thread: "shstk_release(tsk)";
usercfi.c: "vm_munmap(base, size)", "set_shstk_base(tsk, 0, 0)".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import releases
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "task_events[mm_dropped]", "mappings[shadow_stack]")
ALSO = ("task_events",)
APPLIES = "exit of an enabled task with a shadow stack of its own"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in facts.history.exits:
        if releases.case_of(facts, step) == "plain":
            yield releases.judge(facts, step)
