"""The child's ssp is set if and only if a stack is mapped, and before the child runs.

## What it checks
A clone that maps a shadow stack does so before the child first enters user mode. If the stack was
not due, the child's ssp is either the top of that stack or its parent's ssp.

## Why it matters
If ssp is set late, the child's first pushes went elsewhere.

## When it applies
Every clone that maps a shadow stack and whose child runs. A1 to A5 judge whether the stack was due,
A7 the first ssp on a stack that was due, A2 to A4 the inherited ssp if nothing is mapped.

## Evidence columns
mappings.seq within the clone; task_events.seq, ssp of first_user.

## Example
    t1 clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 {
        t2 created; t2 first_user ssp=S2.top; map S2 ss }
The child ran before its stack was mapped.

## Not a violation when
nothing was mapped.

## How to investigate
    shstk log RUN --around <seq of the clone>

## Sources
seed patch, process.c, copy_thread: "if (ssp) /* if needed, set new ssp */
set_active_shstk(p, ssp);"
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
ALSO = ("task_events.ssp",)
APPLIES = "clone that mapped a shadow stack and whose child ran"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        child, stack = clone.child, clone.mapped.stack
        first = child.first_user if child else None
        if child is None or stack is None or first is None:
            continue
        made = clone.mapped.made[0]
        if made.seq > first.seq:
            expected, actual = "the stack mapped before the child runs", "mapped after it ran"
        elif not clone.due and first.ssp not in (None, stack.top, clone.parent_ssp):
            expected, actual = f"ssp {stack.top:#x}, the top of {stack}", f"ssp {first.ssp:#x}"
        else:
            yield OK
            continue
        yield Finding(
            seq=first.seq,
            tid=child.tid,
            mm=child.mm,
            addr=first.ssp,
            expected=expected,
            actual=actual,
            note=f"task {clone.row.tid}'s clone mapped {stack} for task {child.tid}",
            evidence=(clone.seq, made.seq, first.seq),
        )
