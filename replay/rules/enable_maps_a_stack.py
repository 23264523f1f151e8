"""Enabling maps one shadow stack of the default size and sets ssp to its top.

## What it checks
PR_SET(1) by a task that is disabled and unlocked and owns no shadow stack maps exactly one of the
revision's default size, writes no token, and returns 0 with ssp at its top. If the mapping fails or
the size is 0, it returns -ENOMEM.

## Why it matters
Every later thread, fork and signal depends on this stack.

## When it applies
Every revision; the size follows the revision: PAGE_ALIGN(min(RLIMIT_STACK / div, cap)).

## Evidence columns
syscalls.a1, ret, ssp_exit of prctl; mappings and kernel_memory within the call; manifest.rlimits.

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 ssp_exit=S1.top-8 { map S1 ss }

## Not a violation when
the limit or the machine's memory is too small: -ENOMEM is correct.

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE during = <seq of the call>"

## Sources
usercfi.c as merged, arch_set_shadow_stack_status: "addr = allocate_shadow_stack(0, size, 0,
false)", "set_active_shstk(t, addr + size)"; seen on 7.2.13: ssp_is_end 1.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
ALSO = ("kernel_memory", "syscalls.ssp_exit")
APPLIES = "PR_SET_SHADOW_STACK_STATUS(1) by a disabled task that owns no shadow stack"
RESTS_ON = ("default_size",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "enable"):
        yield prctls.enabled(facts, step)
