"""A child inherits its parent's shadow-stack state at the clone; PR_SET affects only the caller.

## What it checks
For a task that has not called PR_SET since it was cloned, PR_GET stores its parent's status at the
clone. In a task that has been disabled since it was created, no shadow-stack instruction takes
effect.

## Why it matters
The test of is_shstk_enabled on clone, the release and every prctl depend on this copied status.

## When it applies
Every revision: tasks created by a clone, and the first task until its first PR_SET.

## Evidence columns
syscalls of prctl, kernel_memory within PR_GET; cfi.kind, tid (a row without a fault means that xSSE
was 1).

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 ...
    t2 sspush 0x10300
where task 2 was cloned earlier, while task 1 was disabled.

## Not a violation when
the task has called PR_SET (P1 then judges its PR_GET) or execve (E1).

## How to investigate
    shstk log RUN --tid <tid> --calls

## Sources
The series' struct cfi_status in thread_info ("ubcfi_en : 1; Enable for backward cfi."), which
arch_dup_task_struct copies as a whole; prctl sets only current's.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.history import Prctl, Task
from shstk.replay.derive.instructions import kind
from shstk.replay.derive.legs import with_legs
from shstk.replay.derive.lives import births, with_life
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown

NEEDS = STATE
APPLIES = "PR_GET or shadow-stack instruction of a task with an inherited status"


def check(facts: Facts) -> Iterator[Outcome]:
    for call in facts.history.prctls:
        reads = call.option == facts.law.first_prctl and call.row.ret == 0
        if reads and call.before.enabled_by == "clone":
            yield _status(call)
    yield from _instructions(facts)


def _status(call: Prctl) -> Outcome:
    if call.stored is None:
        return Unknown("the status that PR_GET stored is not recorded")
    status = int.from_bytes(call.stored, "little")
    if status == call.before.enabled:
        return OK
    creator = call.task.creator
    return Finding(
        seq=call.seq,
        tid=call.task.tid,
        mm=call.task.mm,
        addr=call.row.a1,
        expected=f"{int(call.before.enabled)}, as task {creator.tid if creator else '?'} had it",
        actual=str(status),
        note=f"task {call.task.tid} has not set its status since it was created",
        evidence=(call.task.born, call.seq),
    )


def _instructions(facts: Facts) -> Iterator[Outcome]:
    """Check the first shadow-stack instruction of each task that was created disabled."""
    if not facts.recorded("cfi"):
        return
    firsts = facts.gathered(_firsts)
    for task in facts.history.tasks:
        first = firsts.get(task)
        if first is None:
            continue
        if task.made_with.enabled or first > (task.first_change or first):
            yield OK
            continue
        yield Finding(
            seq=first,
            tid=task.tid,
            mm=task.mm,
            addr=None,
            expected="no shadow-stack instruction takes effect: the status is off",
            actual="one did",
            note=f"task {task.tid} was created with its shadow stack off and has not set it since",
            evidence=(task.born, first),
        )


def _firsts(facts: Facts) -> Gather[dict[Task | None, int]]:
    """When the first such instruction of each task took effect."""
    firsts: dict[Task | None, int] = {}
    born = births(facts.run)
    works = (kind() != "lpad") & pl.col("fault").is_null()
    while piece := (yield):
        rows = with_legs(piece.brief.filter(works).select("seq", "tid", "mm"), born, "left")
        legs = rows.filter(pl.col("leg") != pl.col("leg").shift(fill_value=0)).lazy()
        lives = with_life(facts.run, legs).group_by("tid", "life").agg(pl.col("seq").min())
        for tid, seq in lives.select("tid", "seq").collect().rows():
            firsts.setdefault(facts.history.task(tid, seq), seq)
    return firsts


GATHERS = (_firsts,)
