"""exec unmaps the old shadow stack in the old address space.

## What it checks
A successful execve by an enabled task with a base of its own unmaps exactly that range, once, in
the address space that it leaves, before the execve completes.

## Why it matters
If the old address space has other users (a CLONE_VM child's exec), it stays, and the stack stays in
it without an owner.

## When it applies
From v7, where the release moved to deactivate_mm. Before v7 the stack is freed or kept together
with the old address space; under `revision` nothing must be unmapped there.

## Evidence columns
task_events exec_begin, exec_done; mappings.op unmap, mm, start, length by the same tid between.

## Example
    t1 execve(0) = 0 { exec_begin; mm2 exec_done }
where S1 is mapped in mm1 and nothing is unmapped.

## Not a violation when
the task is a vfork child on its parent's stack (X3) or disabled (X2), or the execve fails (E1).

## How to investigate
    shstk log RUN --around <seq of exec_begin>

## Sources
mmu_context.h, deactivate_mm, from v7: called by mm_release, on exec as on exit.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Execed
from shstk.replay.facts import STATE, Facts
from shstk.replay.intent import INTENT
from shstk.replay.rules import releases, words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown

NEEDS = (*STATE, "task_events[mm_dropped]", "mappings[shadow_stack]")
APPLIES = "successful exec of an enabled task with a shadow stack of its own"
RESTS_ON = ("release_hook",)


def check(facts: Facts) -> Iterator[Outcome]:
    binds = facts.expect == "revision" or INTENT["exec"].binds(facts.row)
    for step in facts.history.execs:
        if not step.succeeded or not step.before.enabled or not step.before.base:
            continue
        if not binds:
            yield Unknown(f"binds from {INTENT['exec'].binds_from}, the run is {facts.row.name}'s")
        elif step.begin is None:
            yield Unknown("exec_begin is not recorded")
        else:
            yield _judge(facts, step)


def _judge(facts: Facts, step: Execed) -> Outcome:
    stack, gone = step.before.stack, step.mapped.gone
    assert stack is not None
    own = [m for m in gone if m.area.overlaps(stack)]
    released = len(own) == 1 and step.before.records(own[0].area)
    if released if step.releases else not own:
        return OK
    mine = facts.ledger.owned(step.task, step.seq)
    return Finding(
        seq=own[0].seq if own else step.seq,
        tid=step.task.tid,
        mm=step.old_mm,
        addr=stack.base,
        expected=f"munmap({stack}) once, in mm {step.old_mm}"
        if step.releases
        else "nothing unmapped",
        actual=f"unmapped {words.areas(own)}",
        note=f"task {step.task.tid}'s exec and its old stack {stack}, {releases.origin(mine)}",
        evidence=(*((mine.step,) if mine else ()), step.seq, *(m.seq for m in own)),
    )
