"""Switching on what is on returns 0 and does nothing.

## What it checks
PR_SET(1) of a task whose shadow stack is on returns 0, maps nothing, and leaves ssp.

## Why it matters
A second stack would drop every return address on the first.

## When it applies
Every revision. A vfork child on its parent's stack is P8's.

## Evidence columns
syscalls.a1, ret, ssp_entry, ssp_exit of prctl; mappings within the call.

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 { map S2 ss }
with the shadow stack on already.

## Not a violation when
the task is locked: P3.

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
APPLIES = "PR_SET_SHADOW_STACK_STATUS(1) while on"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "on already"):
        outcome = prctls.answer(step, (0,), "its shadow stack is on")
        yield prctls.unmoved(step, "it is on already") if outcome is OK else outcome
