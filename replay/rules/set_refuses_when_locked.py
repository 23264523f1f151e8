"""Once locked, PR_SET_SHADOW_STACK_STATUS is -EINVAL for any value.

## What it checks
After PR_LOCK, the caller's own or inherited, PR_SET(0) and PR_SET(1) return -EINVAL and change
nothing.

## Why it matters
The lock is what keeps an attacker from switching the shadow stack off.

## When it applies
Every revision; tasks that locked, or were made by a task that had.

## Evidence columns
syscalls.a0, a1, ret of prctl; clones for who inherits.

## Example
    t1 prctl(PR_LOCK_SHADOW_STACK_STATUS, 0) = 0
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = 0 { unmap S1 }

## Not a violation when
the value has unknown bits (P2: the same error). A lock from before an exec is E2's.

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
APPLIES = "PR_SET_SHADOW_STACK_STATUS of a locked task"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "locked"):
        yield prctls.answer(
            step, (-ERRNO[facts.law.locked],), f"locked, by {step.before.locked_by}"
        )
