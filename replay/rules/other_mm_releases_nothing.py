"""A failed fork releases nothing in the caller's address space.

## What it checks
A clone without CLONE_VM that fails unmaps no shadow stack.

## Why it matters
The child's recorded base is its parent's. A release of that range in the caller's address space
would unmap the parent's stack.

## When it applies
Every revision; failed attempts without CLONE_VM by a task whose shadow stack is enabled.

## Evidence columns
clones.flags, ret; mappings.op unmap within the clone.

## Example
    t1 fork(set_tid=1) = -EEXIST { unmap S1 }

## Not a violation when
the clone shares the address space (A10, X5).

## How to investigate
    shstk query RUN "SELECT * FROM clones WHERE ret < 0"

## Sources
seed patch, usercfi.c, shstk_release: "In this case the parent (current) and the child share the
same mm struct. Move forward only when they're same." ("if (!tsk->mm || tsk->mm !=
current->mm) return")
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.schemas.uapi import CLONE_VM

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "failed clone by an enabled task without CLONE_VM"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        if not clone.failed or clone.row.flags & CLONE_VM or not clone.before.enabled:
            continue
        gone = clone.mapped.gone
        if not gone:
            yield OK
            continue
        whose = facts.ledger.under(gone[0])
        yield Finding(
            seq=gone[0].seq,
            tid=clone.row.tid,
            mm=gone[0].mm,
            addr=gone[0].start,
            expected="nothing unmapped",
            actual=f"unmapped {words.areas(gone)}",
            note=f"task {clone.row.tid}'s failed fork"
            + (f" unmapped {whose.name}" if whose else " unmapped memory"),
            evidence=(clone.seq, *(m.seq for m in gone)),
        )
