"""A task whose shadow stack is disabled releases nothing.

## What it checks
The exit or exec of a task whose shadow stack is disabled unmaps nothing.

## Why it matters
Such a task may still have a base recorded (v1 to v5 give a disabled child one). The task must not
free that range, which may belong to another task by now.

## When it applies
Every revision; exits that the run follows to clear_child_tid or mm_dropped, and execs that
succeeded. P7 covers PR_SET(0) by a disabled task.

## Evidence columns
task_events exit_begin, exec_begin, exec_done; mappings.op unmap by the same tid between; syscalls
of prctl for the status.

## Example
    t2 exit(0) { exit_begin 0; unmap S1; mm_dropped 1 }
where task 2 is disabled.

## Not a violation when
the unmapping results from mm_dropped: the whole address space is freed.

## How to investigate
    shstk log RUN --tid <tid> --calls

## Sources
seed patch, usercfi.c, shstk_release: "If shadow stack is not supported or not enabled, nothing to
release".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import releases
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "task_events[mm_dropped]", "mappings[shadow_stack]")
APPLIES = "exit or exec of a task whose shadow stack is off"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in releases.ends(facts):
        if not step.before.enabled:
            yield releases.nothing(facts, step, "its shadow stack is off")
