"""If the shadow stack cannot be mapped, the clone fails with that error.

## What it checks
A clone whose shadow stack could not be mapped returns the mapping's error (-ENOMEM), or -EINVAL if
the computed size is 0. No child is created, and no shadow stack stays mapped.

## Why it matters
A child that lacks the stack it needs must never run.

## When it applies
Clones by an enabled task with CLONE_VM and without CLONE_VFORK, if the mapping failed or the size
is 0 (RLIMIT_STACK is smaller than the revision's divisor).

## Evidence columns
mappings.ret within the clone; clones.ret, child_tid.

## Example
    t1 clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { map 4M ss = -ENOMEM; t2 created }

## Not a violation when
the clone fails for another reason before the allocation.

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE shadow_stack AND ret < 0"

## Sources
seed patch, process.c, copy_thread: "if (IS_ERR_VALUE(ssp)) return PTR_ERR((void *)ssp);"
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Cloned
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.uapi import ERRNO

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "clone whose shadow stack could not be mapped"
RESTS_ON = ("clone_gate",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        if clone.refused:
            yield _judge(clone)


def _judge(clone: Cloned) -> Outcome:
    refused = clone.mapped.refused
    due = refused[0].ret if refused else -ERRNO["EINVAL"]
    if clone.row.ret is None:
        return Unknown("the clone did not return")
    if clone.row.ret == due and clone.child is None and not clone.mapped.made:
        return OK
    if clone.failed and not refused:
        return Unknown("the clone failed before the allocation")
    return Finding(
        seq=clone.seq,
        tid=clone.row.tid,
        mm=clone.row.mm,
        addr=None,
        expected=f"{words.result(due)}, no child",
        actual=words.result(clone.row.ret)
        + (f", task {clone.child.tid} made" if clone.child else ""),
        note="no shadow stack could be mapped for the child",
        evidence=(clone.seq, *(m.seq for m in refused)),
    )
