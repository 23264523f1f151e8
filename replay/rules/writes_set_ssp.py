"""A write of csr ssp sets ssp except for its three low bits.

## What it checks
Every csr instruction that writes ssp sets it to the recorded value, which is a multiple of 8: bits
2:0 are read-only zero. The only exception it can raise is an illegal instruction (2), which leaves
ssp unchanged.

## Why it matters
longjmp, green threads and stack pivots set ssp this way. With a misaligned ssp every later push and
pop would trap.

## When it applies
Every run with cfi, whatever the kernel.

## Evidence columns
cfi.value, ssp_before, ssp_after, fault of kind ssp_write.

## Example
    t1 ssp_write S1.top-4
after which ssp is S1.top-4.

## Not a violation when
the shadow stack is disabled: csr ssp is then illegal (Z7).

## How to investigate
    shstk query RUN "SELECT * FROM cfi WHERE kind = 'ssp_write'"

## Sources
ISA manual, unprivileged CFI chapter: ssp is XLEN wide and aligned to XLEN/8; on an RV64-only hart
its bits 2:0 are read-only zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.instructions import done
from shstk.replay.facts import Facts
from shstk.replay.rules.manual import Laws, Relation, faults_with
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import ILLEGAL_INSTRUCTION

NEEDS = ("cfi",)
APPLIES = "write of csr ssp"

_LAWS = Laws(
    ("ssp_write",),
    faults_with(ILLEGAL_INSTRUCTION),
    Relation(
        "value",
        (pl.col("value") % 8 == 0) | ~done(),
        lambda row: f"{row['value'] // 8 * 8:#x}",
    ),
)
GATHERS = (_LAWS,)


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_LAWS)
