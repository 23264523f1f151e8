"""A child's shadow-stack state is its parent's at the clone; PR_SET concerns the caller only.

## What it checks
A task that has made no PR_SET of its own since it was cloned answers PR_GET with its parent's
status at the clone. A task whose status is off since it was made executes no shadow-stack
instruction that takes effect.

## Why it matters
The enabled test on clone, the release and every prctl rest on this copied status.

## When it applies
Every revision: tasks made by a clone, and the first task until its first PR_SET.

## Evidence columns
syscalls of prctl, kernel_memory within PR_GET; cfi.kind, tid (a row without a fault means that xSSE
was on).

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 ...
    t2 sspush 0x10300
with task 2 made before that, by a clone while task 1 was off.

## Not a violation when
the task switched itself on or off (P1 judges its PR_GET then), or came from an exec (E1).

## How to investigate
    shstk log RUN --tid <tid> --calls

## Sources
The series' struct cfi_status in thread_info ("ubcfi_en : 1; Enable for backward cfi."), which
arch_dup_task_struct copies whole; prctl sets current's only.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.history import Prctl
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown

NEEDS = STATE
APPLIES = "PR_GET or shadow-stack instruction of a task with the status it was made with"


def check(facts: Facts) -> Iterator[Outcome]:
    for call in facts.history.prctls:
        asks = call.option == facts.law.first_prctl and call.row.ret == 0
        if asks and call.before.enabled_by == "clone":
            yield _status(call)
    yield from _instructions(facts)


def _status(call: Prctl) -> Outcome:
    if call.stored is None:
        return Unknown("what PR_GET stored is not recorded")
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
        note=f"task {call.task.tid} has set nothing itself since it was made",
        evidence=(call.task.born, call.seq),
    )


def _instructions(facts: Facts) -> Iterator[Outcome]:
    """The first shadow-stack instruction of each task that was made with the status off."""
    if not facts.recorded("cfi"):
        return
    firsts: dict[int | None, int] = dict(
        facts.run.scan("cfi")
        .filter((pl.col("kind").cast(pl.String) != "lpad") & pl.col("fault").is_null())
        .group_by("tid")
        .agg(pl.col("seq").min())
        .collect()
        .iter_rows()
    )
    for task in facts.history.tasks:
        first = firsts.get(task.tid)
        if first is None or first < task.born:
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
            note=f"task {task.tid} was made with its shadow stack off and has not set it since",
            evidence=(task.born, first),
        )
