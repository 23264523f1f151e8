"""A user worker of the kernel gets no shadow stack.

## What it checks
No shadow stack is mapped for a task that the kernel creates for itself inside a process (io_uring,
vhost), without a clone call. Such a task never enters user mode.

## Why it matters
It never pushes. A stack that is mapped for it, or recorded as its own, is freed at its exit: on
7.2.13 an io_uring worker unmaps the shadow stack of the task that created it.

## When it applies
Runs with tasks that no clone attempt created: imported runs, and rings of io_uring with SQPOLL. X5
covers what such a task unmaps at its exit, or X2 if its creator was disabled.

## Evidence columns
task_events.kind created without a row in clones; mappings by that tid.

## Example
    t2 created value=1        # no clone
    t2 map S2 ss

## Not a violation when
the task was created by a clone, or is the first of the run.

## How to investigate
    shstk query RUN "SELECT * FROM tasks WHERE how = 'worker'"

## Sources
process.c, copy_thread: the branch with args->fn (kernel threads and user workers) ends before
shstk_alloc_thread_stack.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "user worker of the kernel"


def check(facts: Facts) -> Iterator[Outcome]:
    for task in facts.history.tasks:
        if task.how != "worker":
            continue
        made = [
            m
            for m in facts.mappings.of(task.tid, task.born, task.exit_seq)
            if m.op == "map" and m.shadow_stack and m.done
        ]
        if not made:
            yield OK
            continue
        yield Finding(
            seq=made[0].seq,
            tid=task.tid,
            mm=task.mm,
            addr=made[0].start,
            expected="no shadow stack",
            actual=f"mapped {words.areas(made)}",
            note=f"task {task.tid} is a user worker of the kernel: it never enters user mode",
            evidence=(task.born, *(m.seq for m in made)),
        )
