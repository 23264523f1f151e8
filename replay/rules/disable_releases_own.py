"""Disabling unmaps the caller's own shadow stack, leaves ssp unchanged and returns 0.

## What it checks
PR_SET(0) returns 0, even if the shadow stack was never enabled. If it was enabled and the task has
a base recorded, exactly that range is unmapped, once. csr ssp keeps its stale value, and no
shadow-stack instruction takes effect until the task enables its shadow stack again.

## Why it matters
The memory belongs to the task; nothing else frees it once the status is off.

## When it applies
Every revision. P8 covers a vfork child on its parent's stack; X5 covers the unmapping of another
task's stack.

## Evidence columns
syscalls.a1, ret, ssp_entry, ssp_exit of prctl; mappings.op unmap within the call.

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = 0
where S1 is the task's and nothing is unmapped.

## Not a violation when
the program had unmapped the stack itself: the call still returns 0 (seen on 7.2.13).

## How to investigate
    shstk stacks RUN

## Sources
usercfi.c as merged, arch_set_shadow_stack_status: "If a request to disable shadow stack happens,
let's go ahead and release it"; seen on 7.2.13: 0, and no shadow-stack VMA left.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Prctl
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls, words
from shstk.replay.rules.outcome import OK, Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
ALSO = ("cfi", "syscalls.ssp_entry", "syscalls.ssp_exit")
APPLIES = "PR_SET_SHADOW_STACK_STATUS(0)"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "disable"):
        yield _judge(facts, step)


def _judge(facts: Facts, step: Prctl) -> Outcome:
    outcome = prctls.returned(step, (0,), "disables its shadow stack")
    if outcome is not OK:
        return outcome
    stack = step.before.stack if step.before.enabled else None
    own = [m.area for m in step.mapped.gone if stack and m.area.overlaps(stack)]
    if own == [] if stack is None else len(own) == 1 and step.before.records(own[0]):
        outcome = prctls.unmoved(step, "ssp stays stale")
        return prctls.off(facts, step) if outcome is OK and stack else outcome
    return prctls.wrong(
        step,
        f"unmapped {words.area(stack)}",
        f"unmapped {words.areas(step.mapped.gone)}",
        f"{words.area(stack)} is its own",
        stack.base if stack else None,
    )
