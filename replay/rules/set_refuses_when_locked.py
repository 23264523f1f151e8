"""Once locked, PR_SET_SHADOW_STACK_STATUS returns -EINVAL for any value.

## What it checks
After PR_LOCK, by the task itself or inherited, PR_SET(0) and PR_SET(1) return -EINVAL and change
nothing.

## Why it matters
The lock keeps an attacker from disabling the shadow stack.

## When it applies
Every revision; tasks that locked, or were cloned by a locked task.

## Evidence columns
syscalls.a0, a1, ret of prctl; clones for inheritance.

## Example
    t1 prctl(PR_LOCK_SHADOW_STACK_STATUS, 0) = 0
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = 0 { unmap S1 }

## Not a violation when
the value has unknown bits (P2: the same error). E2 covers a lock from before an exec.

## How to investigate
    shstk log RUN --tid <tid> --calls

## Sources
usercfi.c as merged, arch_set_shadow_stack_status: "bcfi status is locked and further can't be
modified by user"; seen on 7.2.13: -22 for both values, and in a fork child.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = STATE
ALSO = ("mappings[shadow_stack]",)
APPLIES = "PR_SET_SHADOW_STACK_STATUS by a locked task"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "locked"):
        yield prctls.answer(
            step, (-ERRNO[facts.law.locked],), f"locked, by {step.before.locked_by}"
        )
