"""PR_SET_SHADOW_STACK_STATUS with unknown bits returns -EINVAL.

## What it checks
PR_SET with any bit other than PR_SHADOW_STACK_ENABLE returns -EINVAL and maps nothing, locked or
not.

## Why it matters
The write and push bits exist on arm64. A program must be able to detect that riscv has none.

## When it applies
Every revision.

## Evidence columns
syscalls.a1, ret of prctl.

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, 3) = 0

## Not a violation when
arg3, arg4 or arg5 is nonzero (P0).

## How to investigate
    shstk log RUN --calls

## Sources
usercfi.c as merged, arch_set_shadow_stack_status: "Reject unknown flags"; seen on 7.2.13 for 2, 3,
5 and 8.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import Outcome

NEEDS = STATE
ALSO = ("mappings[shadow_stack]",)
APPLIES = "PR_SET_SHADOW_STACK_STATUS with unknown bits"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "unknown bits"):
        yield prctls.answer(step, (prctls.EINVAL,), "unknown bits")
