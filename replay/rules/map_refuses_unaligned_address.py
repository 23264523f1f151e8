"""map_shadow_stack at an unaligned address returns -EINVAL.

## What it checks
An address that is not a multiple of the page size returns -EINVAL.

## Why it matters
Rounding it would place the stack where the caller does not expect it.

## When it applies
Every revision.

## Evidence columns
syscalls.a0, a1, a2, ret of map_shadow_stack; mappings within the call.

## Example
    t1 map_shadow_stack(0x1001, 0x1000, 0) = 0x1000 { map 0x1000@0x1000 ss }

## Not a violation when
the address is 0: the kernel chooses one.

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, ret FROM syscalls WHERE nr = 453"

## Sources
usercfi.c as merged, map_shadow_stack: "if (addr && (addr & (PAGE_SIZE - 1))) return -EINVAL".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls",)
ALSO = ("mappings[shadow_stack]",)
APPLIES = "map_shadow_stack at an unaligned address"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "address unaligned"):
        yield stack_mapping.refused(step, -ERRNO["EINVAL"], "the address is unaligned")
