"""Without support, map_shadow_stack returns -EOPNOTSUPP.

## What it checks
On a machine without shadow stacks, or with riscv_nousercfi, every call returns -EOPNOTSUPP.

## Why it matters
Libraries detect support by this error: another one would look like a bad argument.

## When it applies
Every revision; this is the first check of the call.

## Evidence columns
syscalls.a0, a1, a2, ret of map_shadow_stack; mappings within the call.

## Example
    cpu rv64gc; t1 map_shadow_stack(0, 0x1000, 0) = -EINVAL

## Not a violation when
the kernel does not have the call: -ENOSYS before the series.

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, ret FROM syscalls WHERE nr = 453"

## Sources
usercfi.c as merged, map_shadow_stack: "if (!is_user_shstk_enabled()) return -EOPNOTSUPP".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls",)
ALSO = ("mappings[shadow_stack]",)
APPLIES = "map_shadow_stack without support"
RESTS_ON = ("nousercfi",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "not supported"):
        yield stack_mapping.refused(step, -ERRNO["EOPNOTSUPP"], "no support")
