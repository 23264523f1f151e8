"""PR_GET_SHADOW_STACK_STATUS stores 1 or 0 and never reports the lock.

## What it checks
The call stores 8 bytes at its pointer, 1 if the caller's shadow stack is enabled and 0 if not, and
returns 0. It returns -EFAULT for a pointer that cannot be written.

## Why it matters
Libraries read it to decide whether to unwind ssp.

## When it applies
Every revision. ST1 judges a status inherited by clone, E1 a status after exec.

## Evidence columns
syscalls.a1, ret; kernel_memory.addr, bytes within the call; earlier prctl calls of the task.

## Example
    t1 prctl(PR_GET_SHADOW_STACK_STATUS, 0x7000_0000) = 0 { mem_write 0x7000_0000 u64:0 }
where the shadow stack is enabled.

## Not a violation when
arg3, arg4 or arg5 is nonzero (P0).

## How to investigate
    shstk query RUN "SELECT * FROM kernel_memory WHERE during = <seq of the call>"

## Sources
usercfi.c as merged, arch_get_shadow_stack_status: "this means shadow stack is enabled on the task";
seen on 7.2.13, where it is 1 while locked too.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Prctl
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import OK, Outcome, Unknown

NEEDS = STATE
APPLIES = "PR_GET_SHADOW_STACK_STATUS"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "get"):
        yield _judge(step)


def _judge(step: Prctl) -> Outcome:
    if step.row.ret != 0:
        return prctls.answer(step, (0, prctls.EFAULT), "reads the status")
    if step.stored is None:
        return Unknown("what PR_GET stored is not recorded")
    status = int(step.before.enabled)
    own = step.before.enabled_by in ("boot", "prctl")
    if len(step.stored) != 8 or (own and int.from_bytes(step.stored, "little") != status):
        stored = f"{len(step.stored)} bytes: {int.from_bytes(step.stored, 'little'):#x}"
        return prctls.wrong(step, f"8 bytes: {status:#x}", stored, "the status", step.row.a1)
    return OK
