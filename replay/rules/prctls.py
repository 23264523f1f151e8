"""Classifies prctl calls by rule, in the kernel's order of checks, and judges their results."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from shstk.replay.derive.history import Prctl
from shstk.replay.facts import Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.uapi import ERRNO, PR_GET_CFI, PR_SET_CFI

EINVAL, EFAULT, ENOMEM = -ERRNO["EINVAL"], -ERRNO["EFAULT"], -ERRNO["ENOMEM"]
# Options that no known kernel has on RISC-V: for other architectures only, or past the last one.
_UNKNOWN = frozenset({72, 73, *range(82, 4096)})


def case_of(facts: Facts, step: Prctl) -> str:
    """The case of a call: the first kernel check that decides it; empty if no rule covers it."""
    option = step.option - facts.law.first_prctl
    row = step.row
    if option in (0, 1, 2):
        if row.a2 or row.a3 or row.a4:
            return "spare arguments"
        if not facts.supported:
            return "not supported"
        return _set(step, facts.law.status_bits) if option == 1 else ("get", "set", "lock")[option]
    if step.option in (PR_GET_CFI, PR_SET_CFI):
        return "landing pads"
    return "unknown option" if step.option in _UNKNOWN else ""


def _set(step: Prctl, known: int) -> str:
    before, value = step.before, step.row.a1
    if value & ~known:
        return "unknown bits"
    if before.locked_by == "exec" and (before.locked or step.row.ret == EINVAL):
        return "locked before exec"
    if before.locked:
        return "locked"
    if step.borrowed:
        return "borrower"
    if not value & 1:
        return "disable"
    if before.enabled:
        return "on already"
    return "base recorded" if before.base else "enable"


def of(facts: Facts, *cases: str) -> Iterator[Prctl]:
    """The calls of these cases."""
    return (s for s in facts.history.prctls if case_of(facts, s) in cases)


def returned(step: Prctl, due: Collection[int], why: str) -> Outcome:
    """Check that a call returned one of the due values and mapped nothing."""
    if step.row.ret is None:
        return Unknown("the call did not return")
    if step.row.ret not in due:
        return wrong(step, _either(due), words.result(step.row.ret), why)
    if step.mapped.made:
        return wrong(step, "nothing mapped", f"mapped {words.areas(step.mapped.made)}", why)
    return OK


def answer(step: Prctl, due: Collection[int], why: str) -> Outcome:
    """As `returned`, for a call that must not unmap a stack either. X5 covers others' stacks."""
    outcome, stack = returned(step, due, why), step.before.stack
    own = [m for m in step.mapped.gone if step.borrowed or (stack and m.area.overlaps(stack))]
    if outcome is not OK or not own:
        return outcome
    return wrong(step, "nothing unmapped", f"unmapped {words.areas(own)}", why)


def unmoved(step: Prctl, why: str) -> Outcome:
    """Check that a PR_SET that returned 0 left ssp unchanged. ST2 covers PR_SETs that failed."""
    before, after = step.row.ssp_entry, step.row.ssp_exit
    if before is None or after is None or before == after:
        return OK
    return wrong(step, f"ssp {before:#x}", f"ssp {after:#x}", why, after)


def off(facts: Facts, step: Prctl) -> Outcome:
    """Check that disabling took effect. I4 covers later accesses to the released stack."""
    first, stack = facts.first_effect(step.task, step.seq), step.before.stack
    if first is None or (stack and first[1] is not None and stack.holds(first[1])):
        return OK
    seq, addr = first
    due, actual = "no shadow-stack instruction takes effect", "one did"
    found = wrong(step, due, actual, "it is off", addr)
    return replace(found, seq=seq, addr=addr, evidence=(step.seq, seq))


def wrong(step: Prctl, expected: str, actual: str, why: str, addr: int | None = None) -> Finding:
    """A finding at the call."""
    rows = (*step.mapped.made, *step.mapped.refused, *step.mapped.gone)
    return Finding(
        seq=step.seq,
        tid=step.task.tid,
        mm=step.task.mm,
        addr=addr if addr is not None or not rows else rows[0].start,
        expected=expected,
        actual=actual,
        note=f"prctl({step.row.a0}, {step.row.a1:#x}) of task {step.task.tid}: {why}",
        evidence=(step.seq, *sorted(m.seq for m in rows)),
    )


def enabled(facts: Facts, step: Prctl) -> Outcome:
    """Check that PR_SET(1) by a disabled task without a stack mapped one and set ssp."""
    ret, made = step.row.ret, step.mapped.made
    if ret is None:
        return Unknown("the call did not return")
    why = "its shadow stack was off"
    if step.size == 0 or step.mapped.refused:
        return answer(step, (ENOMEM,), "no stack could be mapped")
    if ret != 0:
        return wrong(step, "0", words.result(ret), why)
    if len(made) != 1:
        return wrong(step, "one new shadow stack", f"mapped {words.areas(made)}", why)
    stack = made[0].area
    written = [
        t
        for t in facts.transfers.of(step.row.tid, step.seq, step.row.seq_end)
        if t.op != "read" and t.mm == made[0].mm and stack.holds(t.addr)
    ]
    if step.size is not None and stack.size != step.size:
        return wrong(step, words.size(step.size), words.size(stack.size), why)
    if written:
        return wrong(step, "no token", f"{written[0].addr:#x} written", why, written[0].addr)
    ssp = step.row.ssp_exit
    if ssp is not None and ssp != stack.top:
        return wrong(step, f"ssp {stack.top:#x}", f"ssp {ssp:#x}", why, ssp)
    if step.size is None:
        return Unknown("RLIMIT_STACK was set to a value that is not recorded")
    return OK


def _either(due: Collection[int]) -> str:
    return " or ".join(words.result(ret) for ret in due)
