"""Shared by the rules about releases: the case of an exit, and the verdict on a release."""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Execed, Exited
from shstk.replay.derive.stacks import Stack
from shstk.replay.facts import Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown


def case_of(facts: Facts, step: Exited) -> str:
    """The case of an exit: off, nothing owned, undue (there should be no stack), gone (or another
    task's by now), replaced (by another mapping), leader (its threads live on), plain.
    """
    stack, task = step.before.stack, step.task
    if not step.before.enabled:
        return "off"
    if stack is None:
        return "nothing owned"
    if step.before.undue:
        return "undue"
    made = facts.ledger.made(task, stack, step.seq)
    if made and made.cut is not None and made.cut < step.seq:
        here = facts.ledger.within(task.mm, stack, step.seq)
        anothers = any(s.owner not in (None, task) for s in here)
        there = facts.regions.within(task.mm, stack.base, stack.top, step.seq - 1)
        return "replaced" if there and not anothers else "gone"
    if task.tid == task.pid and step.threads:
        return "leader"
    return "plain"


def ends(facts: Facts) -> Iterator[Exited | Execed]:
    """Exits and successful execs, in seq order: where a task drops its address space."""
    steps: list[Exited | Execed] = [*facts.history.exits]
    steps += [e for e in facts.history.execs if e.succeeded]
    return iter(sorted(steps, key=lambda step: step.seq))


def nothing(facts: Facts, step: Exited | Execed, why: str) -> Outcome:
    """Check that a task's exit or exec unmaps nothing."""
    if isinstance(step, Exited) and not step.complete:
        return Unknown("the run ends inside the exit")
    gone = [m for m in step.mapped.gone if not step.before.records(m.area)]
    if not gone:
        return OK
    what = "exit" if isinstance(step, Exited) else "exec"
    stack = facts.ledger.under(gone[0])
    return Finding(
        seq=gone[0].seq,
        tid=step.task.tid,
        mm=gone[0].mm,
        addr=gone[0].start,
        expected="nothing unmapped",
        actual=f"unmapped {words.areas(gone)}",
        note=f"task {step.task.tid}'s {what}: {why}"
        + (f"; it unmapped {stack.name}" if stack else ""),
        evidence=(step.seq, *(m.seq for m in gone)),
    )


def judge(facts: Facts, step: Exited) -> Outcome:
    """Check that a task's own stack was released as the law requires: once, and in order."""
    if not step.complete:
        return Unknown("the run ends inside the exit")
    stack = step.before.stack
    assert stack is not None
    own = [m for m in step.mapped.gone if m.area.overlaps(stack)]
    if step.releases is None:
        if not own:
            return OK
        return _finding(facts, step, own[0].seq, "nothing unmapped", f"munmap({own[0].area})")
    release = f"munmap({stack})"
    if len(own) != 1 or not step.before.records(own[0].area):
        seq = own[-1].seq if own else step.seq
        actual = f"unmapped {words.areas(own)}"
        return _finding(facts, step, seq, f"{release}, once", actual)
    seq = own[0].seq
    for mark in (step.cleared, step.vfork_done, step.dropped):
        if mark and mark.seq < seq:
            return _finding(facts, step, seq, f"{release} before {mark.kind}", "after it")
    if step.robust_done and seq < step.robust_done.seq:
        return _finding(facts, step, seq, f"{release} after robust_done", "before it")
    return OK


def origin(stack: Stack | None) -> str:
    """The task and step that allocated a stack."""
    return f"mapped by task {stack.by}'s {stack.how}" if stack else "mapped before the run began"


def _finding(facts: Facts, step: Exited, seq: int, expected: str, actual: str) -> Finding:
    task, stack = step.task, step.before.stack
    assert stack is not None
    mine = facts.ledger.owned(task, step.seq)
    note = f"task {task.tid}'s stack {stack}, {origin(mine)}"
    if not step.mapped.gone:
        note += f", should have been unmapped by task {task.tid}'s exit"
        if mine and mine.ended:
            note += f"; it stayed until {mine.ended.how}"
    marks = (step.robust_done, step.cleared, step.vfork_done, step.dropped)
    seqs = {step.seq, *(m.seq for m in step.mapped.gone), *(e.seq for e in marks if e)}
    return Finding(
        seq=seq,
        tid=task.tid,
        mm=task.mm,
        addr=stack.base,
        expected=expected,
        actual=actual,
        note=note,
        evidence=tuple(sorted(seqs | ({mine.step} if mine else set()))),
    )
