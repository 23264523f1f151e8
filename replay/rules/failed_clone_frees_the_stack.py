"""A clone that fails late frees the child's shadow stack and never the parent's.

## What it checks
If a clone fails after it has mapped a shadow stack for the child, exactly that range is unmapped
again before the call returns, and nothing else.

## Why it matters
Nothing else refers to that stack. A program that retries (a thread limit, a taken tid) leaks one
shadow stack per attempt. If the parent's is freed instead, the parent dies at its next return.

## When it applies
Failed clones (set_tid taken, pids exhausted, a fatal signal) that had mapped a stack. Clones that
fail earlier allocate nothing. Under `intent` every revision; v7 to 7.3 leak (seen on 7.2.13: five
calls, five VMAs). Under `revision`, exit_thread frees what is recorded for the child, and
deactivate_mm frees nothing.

## Evidence columns
clones.ret, seq_end; mappings.op map and unmap within the clone.

## Example
    t1 clone3(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND, set_tid=1) = -EEXIST { map S2 ss }

## Not a violation when
the clone failed before the allocation. X5 covers a failed clone that maps nothing and still unmaps
another task's stack; X4 covers it without CLONE_VM.

## How to investigate
    shstk query RUN "SELECT * FROM clones WHERE ret < 0"
    shstk stacks RUN

## Sources
seed patch, usercfi.c, shstk_release: "When fork() with CLONE_VM fails, the child (tsk) already has
a shadow stack allocated, and exit_thread() calls this function to free it."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Cloned
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.schemas.uapi import CLONE_VM

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "clone that failed after it had mapped a shadow stack"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        if clone.failed and clone.due and clone.mapped.made and clone.row.flags & CLONE_VM:
            yield _judge(facts, clone)


def _judge(facts: Facts, clone: Cloned) -> Outcome:
    made, gone = clone.mapped.made, clone.mapped.gone
    wanted = [clone.releases] if clone.releases else []
    if [m.area for m in gone] == wanted:
        return OK
    others = [m for m in gone if m.area not in wanted]
    whose = facts.ledger.under(others[0]) if others else None
    lost = f"; it unmapped {whose.name}" if whose else ""
    return Finding(
        seq=others[0].seq if others else clone.seq,
        tid=clone.row.tid,
        mm=clone.row.mm,
        addr=(others[0] if others else made[0]).start,
        expected=f"unmapped {words.area(clone.releases)}",
        actual=f"unmapped {words.areas(gone)}",
        note=f"task {clone.row.tid}'s clone mapped {words.areas(made)} for a child that was never"
        f" created ({words.result(clone.row.ret)}); the failing clone should have freed it{lost}",
        evidence=(clone.seq, *(m.seq for m in made), *(m.seq for m in gone)),
    )
