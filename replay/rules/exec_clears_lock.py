"""exec clears the lock, from 7.0.

## What it checks
The first PR_SET after the exec of a locked task is not refused because of the lock.

## Why it matters
exec disables the shadow stack. If the lock stays set, the new program can never enable it.

## When it applies
From 7.0 (fixed in 7.0-rc7) under `intent`. Under `revision`, earlier revisions keep the lock and
PR_SET returns -EINVAL.

## Evidence columns
syscalls.a0, a1, ret of prctl before and after the exec; task_events exec_done.

## Example
    t1 prctl(PR_LOCK_SHADOW_STACK_STATUS, 0) = 0
    t1 execve(0) = 0 { exec_begin; mm2 exec_done }
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = -EINVAL

## Not a violation when
the new program has locked itself since (P3), or the value has unknown bits (P2).

## How to investigate
    shstk log RUN --tid <tid> --calls

## Sources
The fix in 7.0-rc7 to exec's reset of the state; scenario SC11: lock; exec; PR_SET(1).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Prctl
from shstk.replay.facts import STATE, Facts
from shstk.replay.intent import INTENT
from shstk.replay.rules import prctls, words
from shstk.replay.rules.outcome import OK, Outcome, Unknown

NEEDS = STATE
APPLIES = "PR_SET_SHADOW_STACK_STATUS after the exec of a locked task"
RESTS_ON = ("exec_lock",)


def check(facts: Facts) -> Iterator[Outcome]:
    fact = INTENT["exec_lock"]
    for step in facts.history.prctls:
        sets = step.option == facts.law.first_prctl + 1 and step.before.locked_by == "exec"
        if not sets or prctls.case_of(facts, step) in ("spare arguments", "unknown bits"):
            continue
        if facts.expect == "intent" and not fact.binds(facts.row):
            yield Unknown(f"binds from {fact.binds_from}, the run is {facts.row.name}'s")
        else:
            yield _judge(facts, step)


def _judge(facts: Facts, step: Prctl) -> Outcome:
    kept = facts.law.exec_lock == "kept"
    if (step.row.ret == prctls.EINVAL) == kept:
        return OK
    expected = "-EINVAL: the lock is kept" if kept else "not refused: the lock is cleared"
    why = "the first since the exec of a locked task"
    return prctls.wrong(step, expected, words.result(step.row.ret), why)
