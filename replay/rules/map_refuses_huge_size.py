"""map_shadow_stack of an impossible size returns -EOVERFLOW or -ENOMEM.

## What it checks
A size that wraps when rounded up to pages returns -EOVERFLOW; one that does not fit in any address
space returns -ENOMEM. Nothing is mapped.

## Why it matters
If the size wrapped to a small one, the caller would get much less than it requested.

## When it applies
Every revision.

## Evidence columns
syscalls.a1, ret of map_shadow_stack; mappings within the call.

## Example
    t1 map_shadow_stack(0, 0xffff_ffff_ffff_ffff, 0) = -ENOMEM

## Not a violation when
there is not enough memory for a possible size: that -ENOMEM is not an instance.

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, ret FROM syscalls WHERE nr = 453"

## Sources
usercfi.c as merged, map_shadow_stack: "if (aligned_size < size) return -EOVERFLOW"; seen on 7.2.13:
-75 for 2**64-1, -12 for 2**64-4096 and 2**62.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls",)
ALSO = ("mappings[shadow_stack]",)
APPLIES = "map_shadow_stack of an impossible size"

_ERRORS = {"size overflows": "EOVERFLOW", "too large": "ENOMEM"}


def check(facts: Facts) -> Iterator[Outcome]:
    for case, error in _ERRORS.items():
        for step in stack_mapping.of(facts, case):
            yield stack_mapping.refused(step, -ERRNO[error], case)
