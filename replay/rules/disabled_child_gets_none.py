"""A child whose shadow stack is disabled gets none and inherits ssp.

## What it checks
The child's state is a copy of its parent's. If its shadow stack is disabled, the clone maps none
and the child starts with its parent's ssp, whatever the flags.

## Why it matters
A stack mapped for a task that never pushes is never freed, because the release checks the same
status. Worse, the recorded base makes the task's own PR_SET fail with -EINVAL.

## When it applies
Every clone attempt of a task whose shadow stack is disabled, on a machine that has shadow stacks.
Under `intent` the rule is what the comment says. v1 to v5 do the inverse, and under `revision`
their inverse is the rule.

## Evidence columns
syscalls of prctl (a0, a1, ret) for the status; clones.flags; mappings within the clone;
task_events.ssp of first_user; syscalls.ssp_entry of the clone.

## Example
    t1 clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { map 8M@0x7fff_e000_0000 ss; t2 created }
with no PR_SET before it.

## Not a violation when
the parent's shadow stack is enabled: A3, A4 and A5 cover that.

## How to investigate
    shstk log RUN --tid <parent> --calls
and look for prctl(PR_SET_SHADOW_STACK_STATUS) before the clone.

## Sources
seed patch, usercfi.c, shstk_alloc_thread_stack: "If shadow stack is not enabled on the new thread,
skip any switch to a new shadow stack." The line below it, "if (is_shstk_enabled(tsk)) return 0",
does the inverse; review of 2024-10-07: "Should it be '!' is_shstk_enabled(tsk)?"
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import inheritance
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "clone that the test of is_shstk_enabled skips"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.supported:
        return
    for clone in facts.history.clones:
        if not facts.law.opens(clone.before.enabled):
            status = "on" if clone.before.enabled else "off"
            yield inheritance.judge(facts, clone, f"the child's shadow stack is {status}")
