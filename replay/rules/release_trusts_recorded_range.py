"""The release unmaps the recorded range, whatever is mapped there, and nothing else.

## What it checks
If a task's shadow stack was replaced by other mappings, its exit still unmaps the recorded range.
It unmaps nothing else: an area of map_shadow_stack stays even if the task exits while on it.

## Why it matters
The kernel trusts the recorded range without a check. A program that maps a file over its old shadow
stack loses it when the thread ends (seen on real kernels).

## When it applies
Every revision; exits of enabled tasks with a base of their own that the run follows to
clear_child_tid or mm_dropped. With release_hook=exit_thread the mapping survives; `intent` requires
the release there too.

## Evidence columns
mappings after the task's clone or prctl that touch its range; task_events.ssp of exit_begin;
mappings.op unmap by the exiting task.

## Example
    t2 munmap(S2.base, S2.size) = 0 { unmap S2 }
    t2 mmap(S2.base, 0x1000) = S2.base { map 0x1000@S2.base }
    t2 exit(0) { exit_begin 0; clear_child_tid TID; mm_dropped 1 }

## Not a violation when
the range is still the stack that was mapped for the task (X1 judges that release), or nothing is
mapped there.

## How to investigate
    shstk stacks RUN <base>
    shstk query RUN "SELECT * FROM mappings WHERE start = <base>"

## Sources
seed patch, usercfi.c, shstk_release: "base = get_shstk_base(tsk, &size)" and "vm_munmap(base,
size)": nothing checks what is mapped there.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Exited
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import releases
from shstk.replay.rules.outcome import OK, Finding, Outcome

NEEDS = (*STATE, "task_events[mm_dropped]", "mappings[shadow_stack]")
ALSO = ("task_events",)
APPLIES = "exit of a task whose stack was replaced, or that runs on another stack"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in facts.history.exits:
        case = releases.case_of(facts, step)
        if case == "replaced":
            yield releases.judge(facts, step)
        elif case in ("plain", "leader") and step.complete:
            yield from _elsewhere(facts, step)


def _elsewhere(facts: Facts, step: Exited) -> Iterator[Outcome]:
    """What an exit unmaps besides the task's own stack; X5 covers stacks of other tasks."""
    own, ssp = step.before.stack, step.event.ssp
    assert own is not None
    beside = [
        m
        for m in step.mapped.gone
        if not m.area.overlaps(own) and not any(facts.ledger.victims(m, step.task))
    ]
    for row in beside:
        stack = facts.ledger.under(row)
        yield Finding(
            seq=row.seq,
            tid=step.task.tid,
            mm=row.mm,
            addr=row.start,
            expected=f"{row.area} stays: it is not the recorded {own}",
            actual=f"unmapped {row.area}",
            note=f"task {step.task.tid}'s exit unmaps " + (stack.name if stack else "other memory"),
            evidence=tuple(sorted({*((stack.step,) if stack else ()), step.seq, row.seq})),
        )
    if beside or ssp is None or ssp == own.top:
        return
    on = facts.ledger.on(step.task.mm, ssp, step.seq)
    if on and on.owner is None:
        yield OK
