"""A malformed, unsupported or unknown prctl returns -EINVAL.

## What it checks
PR_GET, PR_SET and PR_LOCK_SHADOW_STACK_STATUS return -EINVAL and map nothing if arg3, arg4 or arg5
is nonzero, or if the machine has no shadow stacks. So do options that no kernel knows.

## Why it matters
Spare arguments that are refused today can be given a meaning later. Programs detect support by
these errors.

## When it applies
Every revision. riscv_nousercfi counts as no support from v13.

## Evidence columns
syscalls.a0 to a4, ret of prctl; manifest.cpu, nousercfi.

## Example
    t1 prctl(PR_GET_SHADOW_STACK_STATUS, 0x7000_0000, 1) = 0

## Not a violation when
the option belongs to another part of the kernel.

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, a3, a4, ret FROM syscalls WHERE name = 'prctl'"

## Sources
kernel/sys.c, prctl: arg3, arg4 or arg5 nonzero is -EINVAL in each of the three cases; seen on
7.2.13 for arg3 and arg5.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import Outcome

NEEDS = STATE
APPLIES = "prctl with spare arguments, without support, or of an unknown option"

_CASES = ("spare arguments", "not supported", "unknown option")


def check(facts: Facts) -> Iterator[Outcome]:
    for case in _CASES:
        for step in prctls.of(facts, case):
            yield prctls.answer(step, (prctls.EINVAL,), case)
