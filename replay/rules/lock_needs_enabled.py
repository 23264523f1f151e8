"""PR_LOCK_SHADOW_STACK_STATUS locks an enabled task and returns -EINVAL for a disabled one.

## What it checks
PR_LOCK by a task whose shadow stack is disabled returns -EINVAL whatever its argument. A nonzero
argument returns -EINVAL from v7 and is ignored before. Otherwise it returns 0, however often it is
called.

## Why it matters
A program that takes a refused lock for set is unprotected.

## When it applies
Every revision; the check of the argument follows the revision.

## Evidence columns
syscalls.a1, ret of prctl.

## Example
    t1 prctl(PR_LOCK_SHADOW_STACK_STATUS, 1) = 0
with the shadow stack enabled, under 7.2.

## Not a violation when
arg3, arg4 or arg5 is nonzero (P0). P3 covers what the lock forbids, E2 what exec does to it.

## How to investigate
    shstk log RUN --calls

## Sources
usercfi.c as merged, arch_lock_shadow_stack_status: "If shtstk not supported or not enabled on task,
nothing to lock here"; from v7 the argument must be 0; seen on 7.2.13.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import Outcome

NEEDS = STATE
ALSO = ("mappings[shadow_stack]",)
APPLIES = "PR_LOCK_SHADOW_STACK_STATUS"
RESTS_ON = ("lock_arg",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "lock"):
        if not step.before.enabled:
            yield prctls.answer(step, (prctls.EINVAL,), "its shadow stack is off")
        elif step.row.a1 and facts.law.lock_arg == "zero":
            yield prctls.answer(step, (prctls.EINVAL,), "the argument must be 0")
        else:
            yield prctls.answer(step, (0,), "its shadow stack is on")
