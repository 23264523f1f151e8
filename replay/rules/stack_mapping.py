"""Classifies calls of map_shadow_stack by rule, in the kernel's order of checks."""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.stack_maps import StackMap
from shstk.replay.facts import Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.uapi import PAGE, SHADOW_STACK_SET_TOKEN

# The largest address that the kernel chooses, and the largest that a caller can request (Sv57).
_CHOSEN, _ASKED = 2**47, 2**56


def case_of(facts: Facts, step: StackMap) -> str:
    """The first kernel check that refuses a call; good if none does."""
    tests = (
        (not facts.supported, "not supported"),
        (step.flags & ~SHADOW_STACK_SET_TOKEN, "unknown flags"),
        (step.token and step.size < 8, "no room for the token"),
        (step.addr % PAGE, "address unaligned"),
        (step.length < step.size, "size overflows"),
        (step.size == 0, "size 0"),
        (step.size > (_ASKED if step.addr else _CHOSEN), "too large"),
        (step.token and step.size % 8, "token unaligned"),
    )
    return next((case for hit, case in tests if hit), "good")


def of(facts: Facts, *cases: str) -> Iterator[StackMap]:
    """The calls of these cases."""
    return (s for s in facts.stack_maps if case_of(facts, s) in cases)


def refused(step: StackMap, due: int, why: str) -> Outcome:
    """Check that a call returned this error and left nothing mapped."""
    if step.row.ret is None:
        return Unknown("the call did not return")
    if step.row.ret != due:
        return wrong(step, words.result(due), answer(step), why)
    if step.stack:
        return wrong(step, "nothing mapped", f"{step.stack} stays mapped", why)
    return OK


def answer(step: StackMap) -> str:
    """What the call returned: an error's name or an address."""
    ret = step.row.ret
    return words.result(ret) if ret is None or step.failed else f"{ret % 2**64:#x}"


def wrong(step: StackMap, expected: str, actual: str, why: str) -> Finding:
    """A finding at the call."""
    row = step.row
    rows = (*step.made, *step.refused, *step.gone)
    return Finding(
        seq=row.seq,
        tid=row.tid,
        mm=row.mm,
        addr=step.stack.base if step.stack else step.addr or None,
        expected=expected,
        actual=actual,
        note=f"map_shadow_stack({step.addr:#x}, {step.size:#x}, {step.flags:#x})"
        f" of task {row.tid}: {why}",
        evidence=tuple(sorted({row.seq, *(m.seq for m in rows), *(t.seq for t in step.written)})),
    )
