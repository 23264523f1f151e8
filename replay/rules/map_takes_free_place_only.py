"""map_shadow_stack at an address takes exactly that place, if it is free.

## What it checks
With an address the stack is mapped there, page-aligned in length, and never over anything: -EEXIST
if something is mapped in the range.

## Why it matters
A shadow stack mapped over live memory destroys it; one put elsewhere is not where it was asked for.

## When it applies
Every revision; calls with a nonzero, aligned address and a size that can be.

## Evidence columns
syscalls.a0, a1, ret of map_shadow_stack; mappings, before and within the call.

## Example
    t1 map_shadow_stack(0x7000_0000, 0x1000, 0) = 0x7100_0000 { map 0x1000@0x7100_0000 ss }

## Not a violation when
the address space has no room or memory for it: -ENOMEM; or the token cannot be written (M8).

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE start <= <addr> AND start + length > <addr>"

## Sources
usercfi.c as merged, allocate_shadow_stack: "if (addr) flags |= MAP_FIXED_NOREPLACE"; seen on
7.2.13: -17 for a taken place.
"""

from __future__ import annotations

from collections.abc import Iterator

from replay.derive.occupied import occupied
from replay.derive.rows import Area
from replay.derive.stack_maps import StackMap
from replay.facts import Facts
from replay.rules import stack_mapping, words
from replay.rules.outcome import OK, Outcome, Unknown
from schemas.uapi import ERRNO

NEEDS = ("syscalls", "mappings")
APPLIES = "map_shadow_stack at an address"

_EEXIST, _ENOMEM = -ERRNO["EEXIST"], -ERRNO["ENOMEM"]


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "good", "token unaligned"):
        if step.addr:
            yield _judge(facts, step)


def _judge(facts: Facts, step: StackMap) -> Outcome:
    area, ret = Area(step.addr, step.length), step.row.ret
    if ret is None:
        return Unknown("the call did not return")
    taken = occupied(step.row.mm, area, step.row.seq, facts.mappings, facts.forks)
    if ret == _ENOMEM or (step.failed and ret != _EEXIST and not taken):
        return Unknown("the mapping failed for want of memory, or for the token")
    if (ret == _EEXIST) != taken:
        expected = words.result(_EEXIST) if taken else f"{area} mapped"
        why = "the place is taken" if taken else "the place is free"
        return stack_mapping.wrong(step, expected, stack_mapping.answer(step), why)
    made = [m.area for m in step.made]
    if not taken and made != [area]:
        actual = f"mapped {words.areas(step.made)}"
        return stack_mapping.wrong(step, f"{area} mapped", actual, "the place is free")
    return OK
