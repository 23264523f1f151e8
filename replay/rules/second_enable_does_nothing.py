"""Enabling an enabled shadow stack returns 0 and does nothing.

## What it checks
PR_SET(1) by a task whose shadow stack is enabled returns 0, maps nothing and keeps ssp.

## Why it matters
A second stack would lose every return address on the first.

## When it applies
Every revision. P8 covers a vfork child on its parent's stack.

## Evidence columns
syscalls.a1, ret, ssp_entry, ssp_exit of prctl; mappings within the call.

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 { map S2 ss }
where the shadow stack is already enabled.

## Not a violation when
the task is locked (P3).

## How to investigate
    shstk log RUN --tid <tid> --calls

## Sources
usercfi.c as merged, arch_set_shadow_stack_status: "Request is to enable shadow stack and shadow
stack is not enabled already" guards the allocation; seen on 7.2.13: 0, the same ssp and VMA.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import OK, Outcome

NEEDS = STATE
ALSO = ("mappings[shadow_stack]", "syscalls.ssp_entry", "syscalls.ssp_exit")
APPLIES = "PR_SET_SHADOW_STACK_STATUS(1) while enabled"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "on already"):
        outcome = prctls.answer(step, (0,), "its shadow stack is on")
        yield prctls.unmoved(step, "it is already on") if outcome is OK else outcome
