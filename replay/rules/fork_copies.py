"""A fork child runs on its own copy of the parent's shadow stack.

## What it checks
A clone with neither CLONE_VM nor CLONE_VFORK by a task whose shadow stack is enabled maps no shadow
stack. The child starts with the parent's ssp, and the clone unmaps none of the copied shadow stacks
from the child's address space.

## Why it matters
The copy holds the return addresses that the child must still pop. All of the parent's shadow
stacks are copied with the address space, including those of its other threads.

## When it applies
Every revision.

## Evidence columns
clones.flags; mappings within the clone; task_events.ssp of first_user; syscalls.ssp_entry.

## Example
    t1 fork() = 2 { t2 mm2 created ssp=S2.top }
The child's ssp is not the parent's.

## Not a violation when
the child releases its copy later: by its exit (X1) or its PR_SET(0) (P7).

## How to investigate
    shstk query RUN "SELECT * FROM handoffs WHERE kind = 'fork'"
    shstk stacks RUN

## Sources
seed patch, usercfi.c, shstk_alloc_thread_stack: "For !CLONE_VM the child will use a copy of the
parents shadow stack."

The seed's message: "In case of !VM_CLONE, COW kicks in because entire address space is copied from
parent to child."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import inheritance, words
from shstk.replay.rules.outcome import Finding, Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "clone by an enabled task with neither CLONE_VM nor CLONE_VFORK"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        passes = facts.supported and facts.law.opens(clone.before.enabled)
        if not passes or clone.kind != "fork":
            continue
        if clone.child and clone.mapped.gone:
            gone = clone.mapped.gone
            yield Finding(
                seq=gone[0].seq,
                tid=clone.child.tid,
                mm=gone[0].mm,
                addr=gone[0].start,
                expected="all copies stay",
                actual=f"unmapped {words.areas(gone)}",
                note=f"task {clone.row.tid} makes task {clone.child.tid} by fork",
                evidence=(clone.seq, *(m.seq for m in gone)),
            )
        else:
            yield inheritance.judge(facts, clone, "fork gives it a copy")
