"""What the rules about a task's exit share: which of them an exit is for, and how it is judged."""

from __future__ import annotations

from replay.derive.history import Exited
from replay.derive.rows import Area
from replay.facts import Facts
from replay.rules import words
from replay.rules.outcome import OK, Finding, Outcome, Unknown


def owner_rule(facts: Facts, step: Exited) -> str:
    """off, nothing owned, leader (others live), replaced (another mapping there), moved or plain."""
    stack = step.before.stack
    if not step.before.enabled:
        return "off"
    if stack is None:
        return "nothing owned"
    if not facts.stands(step.task, stack, step.seq):
        return "replaced"
    if step.task.tid == step.task.pid and any(t.pid == step.task.pid for t in step.others):
        return "leader"
    return "plain"


def judge(facts: Facts, step: Exited) -> Outcome:
    """Whether the law's release of a task's own stack happened, once, in its place."""
    if not step.complete:
        return Unknown("the run ends inside the exit")
    stack = step.before.stack
    assert stack is not None
    own = [m for m in step.mapped.gone if m.area.overlaps(stack)]
    if step.releases is None:
        if not own:
            return OK
        return _finding(facts, step, own[0].seq, "nothing unmapped", words.areas(own))
    if len(own) != 1 or own[0].area != stack:
        seq = own[-1].seq if own else step.seq
        return _finding(facts, step, seq, f"munmap({stack}), once", words.areas(own))
    late = [e for e in (step.cleared, step.vfork_done, step.dropped) if e and e.seq < own[0].seq]
    if late:
        return _finding(
            facts, step, own[0].seq, f"munmap({stack}) before {late[0].kind}", "after it"
        )
    if step.robust_done and own[0].seq < step.robust_done.seq:
        return _finding(facts, step, own[0].seq, f"munmap({stack}) after robust_done", "before it")
    return OK


def _finding(facts: Facts, step: Exited, seq: int, expected: str, actual: str) -> Finding:
    stack = step.before.stack or Area(0, 0)
    mine = facts.owned(step.task, step.seq)
    made = f"mapped by the {mine.how} of task {mine.by}" if mine else "mapped before the run began"
    fate = ""
    if not step.mapped.gone:
        fate = f"; task {step.task.tid}'s exit should have unmapped it"
        if mine and mine.ended:
            fate += f", it stayed until {mine.ended.how}"
        elif mine:
            fate += ", it was never unmapped"
    marks = (step.robust_done, step.cleared, step.vfork_done, step.dropped)
    return Finding(
        seq=seq,
        tid=step.task.tid,
        mm=step.task.mm,
        addr=stack.base,
        expected=expected,
        actual=f"unmapped: {actual}" if actual.startswith("0x") else actual,
        note=f"task {step.task.tid}'s stack {stack}, {made}{fate}",
        evidence=tuple(
            sorted(
                {
                    step.seq,
                    *((mine.step,) if mine else ()),
                    *(m.seq for m in step.mapped.gone),
                    *(e.seq for e in marks if e),
                }
            )
        ),
    )
