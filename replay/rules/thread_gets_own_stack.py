"""A thread created by an enabled task gets a shadow stack of its own.

## What it checks
A clone with CLONE_VM and without CLONE_VFORK, by a task whose shadow stack is enabled, maps exactly
one new shadow stack into the shared address space, inside the clone, at an address that the kernel
chooses (hint 0), and writes nothing to it.

## Why it matters
Two tasks that push on one shadow stack overwrite each other's return addresses. They die of
SIGSEGV as soon as they interleave; until then the bug is silent.

## When it applies
Every revision. v1 to v5 violate it: their test of is_shstk_enabled is inverted. A9 and A10 cover
clones that failed, A6 the size, A7 the child's first ssp.

## Evidence columns
clones.flags, clones.child_tid; mappings.op, hint, shadow_stack, ret within the clone;
kernel_memory.addr within the clone; task_events.ssp of first_user.

## Example
    clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { t2 created }
No shadow stack is mapped: the child keeps its parent's ssp.

## Not a violation when
the parent's shadow stack is disabled (A2), or CLONE_VFORK is set (A3). args->stack does not matter:
it is the ordinary stack.

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE during = <seq of the clone>"
and `shstk stacks RUN` for the owner of the stack that the child's first ssp is on.

## Sources
seed patch, usercfi.c, shstk_alloc_thread_stack: "reaching here means, CLONE_VM was specified and
thus a separate shadow stack is needed for new cloned thread."

The seed's message: "This patch allocates a new shadow stack whenever VM_CLONE is given."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Cloned
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
ALSO = ("kernel_memory", "mappings.hint")
APPLIES = "clone by an enabled task with CLONE_VM and without CLONE_VFORK"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.threads:
        yield _judge(facts, clone)


def _judge(facts: Facts, clone: Cloned) -> Outcome:
    child, made = clone.child, clone.mapped.made
    assert child is not None
    if len(made) != 1:
        actual = f"{len(made)} mapped: {words.areas(made)}"
    elif made[0].hint:
        actual = f"hint {words.address(made[0].hint)}"
    elif written := [
        t
        for t in facts.transfers.of(clone.row.tid, clone.seq, clone.row.seq_end)
        if t.op != "read" and t.mm == made[0].mm and made[0].area.holds(t.addr)
    ]:
        actual = f"the kernel wrote {written[0].size} bytes at {written[0].addr:#x}"
    else:
        return OK
    note = f"task {child.tid}, made by task {clone.row.tid}, has no stack that is only its own"
    if clone.first_ssp is not None and not made:
        note += f": its first {words.on_whose(facts, child, clone.first_ssp, clone.seq)}"
    seqs = (clone.seq, *(m.seq for m in made))
    first = child.first_user
    return Finding(
        seq=clone.seq,
        tid=child.tid,
        mm=clone.row.mm,
        addr=made[0].start if made else clone.first_ssp,
        expected=f"one new shadow stack of {words.size(clone.size)}, placed by the kernel, zero",
        actual=actual if made else "no new shadow stack",
        note=note,
        evidence=(*seqs, first.seq) if first else seqs,
    )
