"""The child's ssp is set if and only if a stack was mapped, and before it runs.

## What it checks
Where a clone maps a shadow stack, it does so before the child first enters user mode. Where it maps
one that was not due, the child's ssp is the top of that stack, or its parent's; nothing else.

## Why it matters
An ssp set late is an ssp that the child has run without: its first pushes went elsewhere.

## When it applies
Every clone that maps a shadow stack and whose child runs. Whether the stack was due is A1's to
A5's; the first ssp on a stack that was due is A7's; an inherited ssp where nothing is mapped is
A2's to A4's.

## Evidence columns
mappings.seq within the clone; task_events.seq, ssp of first_user.

## Example
    t1 clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 {
        t2 created; t2 first_user ssp=S2.top; map S2 ss }
The child ran before its stack was there.

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

NEEDS = (*STATE, "mappings")
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
