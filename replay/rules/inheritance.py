"""Shared by the rules for clones that allocate nothing: no mapping, and the parent's ssp."""

from __future__ import annotations

from shstk.replay.derive.history import Cloned
from shstk.replay.facts import Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown


def judge(facts: Facts, clone: Cloned, why: str) -> Outcome:
    """Check that a clone maps no shadow stack and gives its child the parent's ssp."""
    child, made = clone.child, clone.mapped.made
    tid = child.tid if child else clone.row.tid
    if made:
        return Finding(
            seq=clone.seq,
            tid=tid,
            mm=clone.row.mm,
            addr=made[0].start,
            expected="no new shadow stack",
            actual=f"mapped {words.areas(made)}",
            note=f"task {clone.row.tid} makes task {tid}: {why}",
            evidence=(clone.seq, *(m.seq for m in made)),
        )
    first = child.first_user if child else None
    if child is None or first is None:
        return OK  # no child, or it never ran
    if first.ssp is None or clone.parent_ssp is None:
        return Unknown("the child's first ssp or the parent's ssp at its call is not recorded")
    if first.ssp == clone.parent_ssp:
        return OK
    return Finding(
        seq=first.seq,
        tid=child.tid,
        mm=child.mm,
        addr=first.ssp,
        expected=f"ssp {clone.parent_ssp:#x}, its parent's at the call",
        actual=f"ssp {first.ssp:#x}",
        note=f"task {clone.row.tid} makes task {child.tid}: {why}; the child's first "
        + words.on_whose(facts, child, first.ssp, first.seq),
        evidence=(clone.seq, first.seq),
    )
