"""Enabling a disabled task that has a base recorded returns -EINVAL.

## What it checks
PR_SET(1) by a task whose shadow stack is disabled but that has a base recorded returns -EINVAL and
maps nothing.

## Why it matters
The recorded base would be lost and its stack never freed.

## When it applies
Every revision. Only children that v1 to v5 give a stack although they are disabled (A2) have a base
while disabled.

## Evidence columns
clones and mappings within them; syscalls.a1, ret of prctl.

## Example
    kernel v3
    t1 clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { map S2 ss; t2 created ssp=S2.top }
    t2 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 { map S3 ss }

## Not a violation when
PR_SET(0) has already released the base.

## How to investigate
    shstk stacks RUN

## Sources
usercfi.c as merged, arch_set_shadow_stack_status: "shadow stack was allocated and enable request
again no need to support such usecase and return EINVAL."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import Outcome

NEEDS = STATE
ALSO = ("mappings[shadow_stack]",)
APPLIES = "PR_SET_SHADOW_STACK_STATUS(1) by a disabled task that has a base recorded"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "base recorded"):
        why = f"{step.before.stack} is recorded for it"
        yield prctls.answer(step, (prctls.EINVAL,), why)
