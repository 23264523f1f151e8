"""map_shadow_stack with unknown flags returns -EINVAL.

## What it checks
Any flag in the low 32 bits other than SHADOW_STACK_SET_TOKEN returns -EINVAL.

## Why it matters
Other architectures have a marker flag; a program must be able to detect that riscv has none.

## When it applies
Every revision. Bits above 31 are ignored: 1 << 32 acts as 0 (seen on 7.2.13).

## Evidence columns
syscalls.a0, a1, a2, ret of map_shadow_stack; mappings within the call.

## Example
    t1 map_shadow_stack(0, 0x1000, 2) = 0x7fff_0000_0000 { map 0x1000@0x7fff_0000_0000 ss }

## Not a violation when
there is no support (M1).

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, ret FROM syscalls WHERE nr = 453"

## Sources
usercfi.c as merged, map_shadow_stack: "Anything other than set token should result in invalid
param".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls",)
ALSO = ("mappings[shadow_stack]",)
APPLIES = "map_shadow_stack with unknown flags"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "unknown flags"):
        yield stack_mapping.refused(step, -ERRNO["EINVAL"], "unknown flags")
