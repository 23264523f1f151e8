"""A thread starts at the top of its own shadow stack, and its parent's ssp does not change.

## What it checks
The ssp with which a thread first enters user mode is base + size of the shadow stack mapped for it,
and never its parent's. The clone does not change the parent's ssp.

## Why it matters
The first push writes base + size - 8. With an ssp elsewhere, the child's return addresses go to
memory that is not its own: silently to the parent's stack, as in v3.

## When it applies
Every revision. v1 to v5 violate it together with A5: if nothing is mapped, the child keeps its
parent's ssp. Only A5 covers a thread without a stack and with any other ssp.

## Evidence columns
task_events.ssp of first_user; mappings.start, length within the clone; syscalls.ssp_entry, ssp_exit
of the clone.

## Example
    clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { map S2 ss; t2 created }
    t2 first_user ssp=S1.top
The child runs on S1, which is its parent's.

## Not a violation when
the task is disabled (A2), shares its parent's stack under CLONE_VFORK (A3), or has a copy (A4). I2
covers changes of ssp once the child runs.

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

NEEDS = (*STATE, "mappings[shadow_stack]")
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
        return  # nothing was mapped: A5 covers it
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
    """Where the child may start; if the size is wrong (A6), also at the top by the correct one."""
    return {stack.top - below, stack.base + (clone.size or stack.size) - below}
