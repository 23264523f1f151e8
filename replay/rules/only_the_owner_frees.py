"""No task unmaps the shadow stack of another live task.

## What it checks
No part of what the kernel unmaps in a task's exit, exec, PR_SET(0) or failed clone belongs to the
shadow stack of another live task.

## Why it matters
The other task dies at its next push or pop, far from the cause, and its own calls do not show why.

## When it applies
Every revision. v1 to v5 violate it: a failed clone with CLONE_VM (SC6, SC7) and a thread's
PR_SET(0) (SC10) free the range at a copied base. From v7 the exit of an io_uring worker does (SC8).
Under `revision` a release that the revision's code makes is expected.

## Evidence columns
mappings.op unmap, start, length, during; clones and prctl calls for the owner of the range.

## Example
    t2 prctl(PR_SET_SHADOW_STACK_STATUS, 0) = 0 { unmap S1 }
S1 is task 1's.

## Not a violation when
the program itself calls munmap; the owner is dead; the task is a vfork child (X3, P8) or disabled
(X2); the failed clone had mapped a stack (A10) or did not share the address space (X4).

## How to investigate
    shstk stacks RUN <address>
shows the owner, who mapped it, and who unmapped it.

## Sources
usercfi.c, shstk_release: its guards ("tsk->mm != current->mm", "If base is NULL ... this task is
not managing its own shadow stack") ensure that a task frees only its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Exited, Task
from shstk.replay.derive.rows import Area, Mapping
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.replay.rules.releases import ends
from shstk.schemas.uapi import CLONE_VM

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "unmapping by an exit, an exec, PR_SET(0) or a failed clone"
RESTS_ON = ("clone_gate", "release_hook")


def check(facts: Facts) -> Iterator[Outcome]:
    for seq, actor, what, allowed, row in _unmaps(facts):
        taken = [] if row.area == allowed else list(facts.ledger.victims(row, actor))
        if not taken:
            yield OK
        for stack, owner in taken:
            yield Finding(
                seq=row.seq,
                tid=row.tid,
                mm=row.mm,
                addr=stack.area.base,
                expected=f"{stack.area} stays while task {owner.tid} lives",
                actual=f"unmapped {row.area}",
                note=f"task {row.tid}'s {what} unmaps {stack.name}",
                evidence=tuple(sorted({stack.step, seq, row.seq})),
            )


def _unmaps(facts: Facts) -> Iterator[tuple[int, Task | None, str, Area | None, Mapping]]:
    """The unmaps of this rule: (step, acting task, kind of step, area due to be unmapped, row)."""
    for clone in facts.history.clones:
        late = clone.due and clone.mapped.made
        others = late or not clone.row.flags & CLONE_VM  # A10, X4 and A4 judge these
        if not others:
            for row in clone.mapped.gone:
                yield clone.seq, None, "clone", clone.releases, row
    for call in facts.history.prctls:
        if not call.borrowed:
            own = call.before.stack if call.before.enabled else None
            for row in call.mapped.gone:
                yield call.seq, call.task, "prctl", own, row
    for end in ends(facts):
        if end.before.enabled and not end.borrowed:
            for row in end.mapped.gone:
                what = "exit" if isinstance(end, Exited) else "exec"
                yield end.seq, end.task, what, end.releases, row
