"""map_shadow_stack with a token and no room for it returns -ENOSPC.

## What it checks
SHADOW_STACK_SET_TOKEN with a size below 8, including 0, returns -ENOSPC.

## Why it matters
A token below the base would be written into the neighbouring mapping.

## When it applies
Every revision.

## Evidence columns
syscalls.a0, a1, a2, ret of map_shadow_stack; mappings within the call.

## Example
    t1 map_shadow_stack(0, 4, SHADOW_STACK_SET_TOKEN) = -EINVAL

## Not a violation when
no token is requested (M7 then judges size 0).

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, ret FROM syscalls WHERE nr = 453"

## Sources
usercfi.c as merged, map_shadow_stack: "If there isn't space for a token".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls",)
ALSO = ("mappings[shadow_stack]",)
APPLIES = "map_shadow_stack with a token and a size below 8"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "no room for the token"):
        yield stack_mapping.refused(step, -ERRNO["ENOSPC"], "no room for the token")
