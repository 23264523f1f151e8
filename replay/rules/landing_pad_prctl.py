"""PR_SET_CFI enables, disables and locks landing pads, and PR_GET_CFI reports their status.

## What it checks
Both return -EINVAL for an arg2 other than PR_CFI_BRANCH_LANDING_PADS (0), a nonzero arg4 or arg5,
or no support. PR_SET_CFI returns -EINVAL once locked; 1 and 5 enable (5 locks), 2 and 6 disable (6
does not lock), all other values are -EINVAL. PR_GET_CFI stores 2 for disabled, 1 for enabled, 5 for
enabled and locked.

## Why it matters
The lock lasts for the task's life. A value that is mistaken for another leaves it unprotected.

## When it applies
From 7.0, which introduced the two options; unknown bits are refused from 7.1.

## Evidence columns
syscalls.a1 to a4, ret of prctl 80 and 81; kernel_memory within PR_GET_CFI.

## Example
    t1 prctl(PR_SET_CFI, 0, 3) = 0

## Not a violation when
the pointer of PR_GET_CFI cannot be written: -EFAULT.

## How to investigate
    shstk log RUN --calls

## Sources
include/uapi/linux/prctl.h of 7.0: PR_GET_CFI 80, PR_SET_CFI 81, PR_CFI_ENABLE, PR_CFI_DISABLE,
PR_CFI_LOCK; seen on 7.2.13 (cfi_prctl).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Prctl
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import Outcome, Unknown
from shstk.schemas.uapi import (
    PR_CFI_DISABLE,
    PR_CFI_ENABLE,
    PR_CFI_LOCK,
    PR_GET_CFI,
)

NEEDS = STATE
APPLIES = "PR_GET_CFI or PR_SET_CFI"

_ON_LOCKED = PR_CFI_ENABLE | PR_CFI_LOCK
_TAKEN = (PR_CFI_ENABLE, PR_CFI_DISABLE, _ON_LOCKED, PR_CFI_DISABLE | PR_CFI_LOCK)
_KNOWN_BITS = PR_CFI_ENABLE | PR_CFI_DISABLE | PR_CFI_LOCK


def check(facts: Facts) -> Iterator[Outcome]:
    for step in prctls.of(facts, "landing pads"):
        if facts.law.cfi_prctl == "absent":
            yield Unknown(f"7.0 introduced the options, the run is {facts.row.name}'s")
        else:
            yield _judge(facts, step)


def _judge(facts: Facts, step: Prctl) -> Outcome:
    row = step.row
    if row.a1 or row.a3 or row.a4 or not facts.landing_pads:
        return prctls.answer(step, (prctls.EINVAL,), "malformed or not supported")
    if step.option == PR_GET_CFI:
        return _got(step)
    if row.a2 & ~_KNOWN_BITS and facts.law.cfi_prctl == "any_bits":
        return Unknown("unknown bits are refused from 7.1")
    if step.before.lp_locked or row.a2 not in _TAKEN:
        why = "locked" if step.before.lp_locked else f"{row.a2} is not a status"
        return prctls.answer(step, (prctls.EINVAL,), why)
    return prctls.answer(step, (0,), f"sets {row.a2}")


def _got(step: Prctl) -> Outcome:
    before = step.before
    on = _ON_LOCKED if before.lp_locked else PR_CFI_ENABLE
    status = on if before.lp_enabled else PR_CFI_DISABLE
    if step.row.ret == 0 and step.stored is None:
        return Unknown("the status that PR_GET_CFI stored is not recorded")
    if step.row.ret == 0 and step.stored and int.from_bytes(step.stored, "little") != status:
        actual = str(int.from_bytes(step.stored, "little"))
        return prctls.wrong(step, str(status), actual, "landing pads", step.row.a2)
    return prctls.answer(step, (0, prctls.EFAULT), "reads the status of landing pads")
