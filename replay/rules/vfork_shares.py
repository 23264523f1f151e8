"""A vfork child runs on its suspended parent's shadow stack.

## What it checks
A clone with CLONE_VFORK, with or without CLONE_VM, by a task whose shadow stack is on, maps no
shadow stack; the child begins with its parent's ssp at the call.

## Why it matters
The parent sleeps until the child execs or exits, so one stack is enough for both; a second one
would be freed by nobody, for the child's base is 0 to say so.

## When it applies
Every revision. (v1 to v5 come to the same by another way: their test sends enabled children away.)

## Evidence columns
clones.flags; mappings within the clone; task_events.ssp of first_user; syscalls.ssp_entry.

## Example
    t1 vfork() = 2 { map S2 ss; t2 created }

## Not a violation when
the child switches its own off and on again and so gets one (P8). That the parent's stack survives
the child is X3's and P8's.

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

NEEDS = (*STATE, "mappings")
APPLIES = "clone with CLONE_VFORK of an enabled task"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        passes = facts.supported and facts.law.opens(clone.before.enabled)
        if passes and clone.kind == "vfork":
            yield inheritance.judge(facts, clone, "CLONE_VFORK shares the parent's stack")
