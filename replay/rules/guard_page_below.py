"""The page below every shadow stack that the kernel places stays free.

## What it checks
If the kernel chooses the address of a shadow stack, the range and the page below it are free. If
the kernel chooses the address of any later mapping, it overlaps neither a shadow stack nor the page
below one.

## Why it matters
A thread that pushes past the end of its shadow stack must fault, not continue on its neighbour's.

## When it applies
Every revision: mappings with hint 0, or with a hint that was not followed. M6 checks that
map_shadow_stack does not replace a mapping.

## Evidence columns
mappings.hint, start, length, flags, shadow_stack of everything mapped.

## Example
    map S1 ss; map S2 ss
where S2 ends at the start of S1.

## Not a violation when
the program chose the address: MAP_FIXED may abut, and so may a hint that was followed. The program
also chooses the address of a stack that it moves by mremap.

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE op = 'map' ORDER BY start"

## Sources
include/linux/mm.h, stack_guard_start_gap: a VM_SHADOW_STACK area has a gap of one page below it;
seen on 7.2.13: areas back to back lie size + 0x1000 apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.regions import Region
from shstk.replay.derive.rows import Mapping
from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.schemas.uapi import PAGE

NEEDS = ("mappings",)
APPLIES = "address that the kernel chose for a shadow stack, or next to one"


def check(facts: Facts) -> Iterator[Outcome]:
    guarded = {m.mm for m in facts.mappings if m.shadow_stack}
    asked = {s.row.seq for s in facts.stack_maps}
    for m in facts.mappings:
        chosen = m.op == "map" and m.done and m.start is not None and m.hint != m.start
        if not chosen or m.mm not in guarded or m.hint is None:
            continue
        if m.shadow_stack:
            top = m.area.base if m.during in asked else m.area.top
            taken = facts.regions.within(m.mm, m.area.base - PAGE, top, m.seq - 1)
            yield _finding(m, taken[0], "it and the page below it free") if taken else OK
            continue
        here = facts.regions.within(m.mm, m.area.base, m.area.top + PAGE, m.seq - 1)
        stacks = [r for r in here if r.shadow_stack]
        if stacks:
            yield _finding(m, stacks[0], "the shadow stack and the page below it free")


def _finding(m: Mapping, other: Region, expected: str) -> Finding:
    what = "shadow stack" if m.shadow_stack else "memory"
    return Finding(
        seq=m.seq,
        tid=m.tid,
        mm=m.mm,
        addr=m.start,
        expected=expected,
        actual=f"{other.name or 'memory'} at {other.start:#x}+{other.length:#x}",
        note=f"{what} {m.area}, at an address chosen by the kernel",
        evidence=(other.made_seq, m.seq),
    )
