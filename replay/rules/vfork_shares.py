"""A vfork child runs on its suspended parent's shadow stack.

## What it checks
A clone with CLONE_VFORK, with or without CLONE_VM, by a task whose shadow stack is enabled maps no
shadow stack. The child starts with its parent's ssp at the call.

## Why it matters
The parent sleeps until the child execs or exits, so one stack is enough for both. A second one
would never be freed, because the child's base is 0 to mark the sharing.

## When it applies
Every revision. (v1 to v5 do the same for another reason: their test returns early for enabled
children.)

## Evidence columns
clones.flags; mappings within the clone; task_events.ssp of first_user; syscalls.ssp_entry.

## Example
    t1 vfork() = 2 { map S2 ss; t2 created }

## Not a violation when
the child disables and re-enables its shadow stack and so gets its own (P8). X3 and P8 check that
the parent's stack survives the child.

## How to investigate
    shstk query RUN "SELECT * FROM handoffs WHERE kind = 'vfork'"

## Sources
seed patch, usercfi.c, shstk_alloc_thread_stack: "For CLONE_VFORK the child will share the parents
shadow stack. Set base = 0 and size = 0, this is special means to track this state so the freeing
logic run for child knows to leave it alone."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import inheritance
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "clone by an enabled task with CLONE_VFORK"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        passes = facts.supported and facts.law.opens(clone.before.enabled)
        if passes and clone.kind == "vfork":
            yield inheritance.judge(facts, clone, "CLONE_VFORK shares the parent's stack")
