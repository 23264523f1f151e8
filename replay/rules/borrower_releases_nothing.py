"""A vfork child's exit or exec leaves its parent's shadow stack alone.

## What it checks
The exit or exec of a vfork child that has no base of its own unmaps nothing. Its parent's shadow
stack stays mapped.

## Why it matters
The parent resumes on that stack. If the child released it, the parent dies at its next return.

## When it applies
Every revision; exits that the run follows to clear_child_tid or mm_dropped, and execs that
succeeded, of vfork children that own no shadow stack.

## Evidence columns
clones.flags; task_events exit_begin, exec_begin, exec_done, vfork_done; mappings.op unmap by the
child between.

## Example
    t1 vfork() = 2 { t2 created }
    t2 exit(0) { exit_begin 0; unmap S1; vfork_done; mm_dropped 1 }
S1 is task 1's.

## Not a violation when
the vfork child disabled and re-enabled its shadow stack and so has one of its own (P8): X1 requires
its release.

## How to investigate
    shstk stacks RUN <address>

## Sources
seed patch, usercfi.c, shstk_release: "We know shadow stack is enabled but if base is NULL, then
this task is not managing its own shadow stack (CLONE_VFORK). So skip freeing it."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import releases
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "task_events[mm_dropped]", "mappings[shadow_stack]")
APPLIES = "exit or exec of a vfork child on its parent's shadow stack"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in releases.ends(facts):
        if step.before.enabled and step.borrowed:
            yield releases.nothing(facts, step, "it runs on its parent's shadow stack")
