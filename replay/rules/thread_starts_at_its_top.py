"""A thread starts at the top of its own shadow stack, and its parent's ssp stays.

## What it checks
The ssp with which a thread first enters user mode is base + size of the shadow stack mapped for it,
and never its parent's. The parent's ssp is the same after the clone as before.

## Why it matters
The first push writes base + size - 8. An ssp elsewhere puts the child's return addresses on memory
that is not its own: on the parent's stack, silently, as v3 does.

## When it applies
Every revision. v1 to v5 violate it together with A5: with nothing mapped the child keeps the
parent's ssp. A thread without a stack and with any other ssp is A5's alone.

## Evidence columns
task_events.ssp of first_user; mappings.start, length within the clone; syscalls.ssp_entry, ssp_exit
of the clone.

## Example
    clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { map S2 ss; t2 created }
    t2 first_user ssp=S1.top
The child runs on S1, which is its parent's.

## Not a violation when
the task is off (A2), shares on purpose under CLONE_VFORK (A3), or is a copy (A4). What the child
does to its ssp once it runs is I2's.

## How to investigate
    shstk query RUN "SELECT * FROM handoffs WHERE tid = <the child>"
    shstk stacks RUN <the ssp>

## Sources
seed patch, usercfi.c, shstk_alloc_thread_stack: "return addr + size"; process.c, copy_thread: "if
needed, set new ssp".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Cloned
from shstk.replay.derive.rows import Area
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown

NEEDS = (*STATE, "mappings")
APPLIES = "clone with CLONE_VM and without CLONE_VFORK that gave its child a shadow stack"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.threads:
        yield from _judge(facts, clone)


def _judge(facts: Facts, clone: Cloned) -> Iterator[Outcome]:
    child, stack = clone.child, clone.mapped.stack
    assert child is not None
    first = child.first_user
    shares = clone.first_ssp is not None and clone.first_ssp == clone.parent_ssp
    if stack is None and not shares:
        return  # nothing was mapped: A5's
    if first is None or first.ssp is None:
        yield Unknown("the child's first ssp is not recorded")
    elif shares or (
        stack is not None and first.ssp not in _tops(clone, stack, facts.law.below_top)
    ):
        yield Finding(
            seq=first.seq,
            tid=child.tid,
            mm=child.mm,
            addr=first.ssp,
            expected=f"ssp {stack.top - facts.law.below_top:#x}, the top of its own {stack}"
            if stack
            else "the top of a shadow stack of its own",
            actual=f"ssp {first.ssp:#x}" + (", its parent's" if shares else ""),
            note=f"task {child.tid}, made by task {clone.row.tid}: its first "
            + words.on_whose(facts, child, first.ssp, first.seq),
            evidence=(clone.seq, *(m.seq for m in clone.mapped.made), first.seq),
        )
    else:
        yield OK
    before, after = clone.parent_ssp, clone.parent_ssp_after
    if stack and before is not None and after is not None and before != after:
        yield Finding(
            seq=clone.seq,
            tid=clone.row.tid,
            mm=clone.row.mm,
            addr=after,
            expected=f"the parent's ssp stays {before:#x}",
            actual=f"ssp {after:#x}",
            note=f"the clone that made task {child.tid} moved its parent's ssp",
            evidence=(clone.seq,),
        )


def _tops(clone: Cloned, stack: Area, below: int) -> set[int]:
    """Where the child may begin; if the size is wrong (A6), at the top by the right one too."""
    return {stack.top - below, stack.base + (clone.size or stack.size) - below}
