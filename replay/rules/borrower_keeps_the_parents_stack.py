"""A vfork child that disables its shadow stack leaves its parent's mapped; enabling maps its own.

## What it checks
For a vfork child on its parent's shadow stack, PR_SET(0) returns 0 and unmaps nothing, and no
shadow-stack instruction of the child takes effect afterwards. PR_SET(1) then maps a stack of the
child's own, as in P6. PR_SET(1) while enabled returns 0 and maps nothing.

## Why it matters
The parent resumes on the stack that the child stopped using.

## When it applies
Every revision; children made with CLONE_VFORK by an enabled task, until they exec. v1 to v5 violate
it: their child has the parent's base recorded (SC13).

## Evidence columns
clones.flags; syscalls of prctl by the child; mappings within them.

## Example
    t1 vfork() = 2 { t2 created }
    t2 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = 0 { unmap S1 }

## Not a violation when
the child has a stack of its own by now: P7 requires its release.

## How to investigate
    shstk stacks RUN

## Sources
usercfi.c as merged, arch_set_shadow_stack_status: "if CLONE_VFORKed child did this, then in that
case we will end up not releasing the shadow stack (because it might be needed in parent)", "if
VFORKed child tries to enable again then in that case, it'll get entirely new shadow stack".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Prctl
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls, words
from shstk.replay.rules.outcome import OK, Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
ALSO = ("cfi", "syscalls.ssp_entry", "syscalls.ssp_exit")
APPLIES = "PR_SET_SHADOW_STACK_STATUS of a vfork child on its parent's stack"
RESTS_ON = ("clone_gate", "default_size")


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "borrower"):
        yield _judge(facts, step)


def _judge(facts: Facts, step: Prctl) -> Outcome:
    if step.row.a1 and not step.before.enabled:
        return prctls.enabled(facts, step)
    why = "a vfork child on its parent's stack"
    outcome, gone = prctls.returned(step, (0,), why), step.mapped.gone
    if outcome is not OK:
        return outcome
    if not gone:
        outcome = prctls.unmoved(step, why)
        switched_off = step.before.enabled and not step.row.a1
        return prctls.off(facts, step) if outcome is OK and switched_off else outcome
    stack = facts.ledger.under(gone[0])
    why = f"it unmapped {stack.name}" if stack else "it owns nothing"
    return prctls.wrong(step, "nothing unmapped", f"unmapped {words.areas(gone)}", why)
