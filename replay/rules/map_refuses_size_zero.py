"""map_shadow_stack of size 0 returns -EINVAL.

## What it checks
A size of 0 without a token returns -EINVAL, and nothing is mapped.

## Why it matters
There are no empty mappings: success would give the caller an address that it does not own.

## When it applies
Every revision.

## Evidence columns
syscalls.a0, a1, a2, ret of map_shadow_stack; mappings within the call.

## Example
    t1 map_shadow_stack(0, 0, 0) = 0x7fff_0000_0000

## Not a violation when
a token is requested: -ENOSPC comes first (M3).

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, ret FROM syscalls WHERE nr = 453"

## Sources
mm/mmap.c, do_mmap: a length of 0 is -EINVAL, reached from allocate_shadow_stack; seen on 7.2.13.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls",)
ALSO = ("mappings[shadow_stack]",)
APPLIES = "map_shadow_stack of size 0"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "size 0"):
        yield stack_mapping.refused(step, -ERRNO["EINVAL"], "the size is 0")
