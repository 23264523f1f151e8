"""ssrdp and reads of csr ssp return ssp and leave it unchanged.

## What it checks
Every ssrdp and every csr instruction that only reads ssp returns ssp and does not change it. ssrdp
never traps; a read of csr ssp can only raise an illegal instruction exception (2).

## Why it matters
setjmp, ucontext and unwinders save this value and restore it later.

## When it applies
Every run with cfi, whatever the kernel.

## Evidence columns
cfi.value, ssp_before, ssp_after, fault of kinds ssrdp and ssp_read.

## Example
    t1 ssrdp value=S1.top-8
where ssp is S1.top.

## Not a violation when
the shadow stack is disabled: csr ssp is then illegal (Z7), and ssrdp returns 0 and has no row.

## How to investigate
    shstk query RUN "SELECT * FROM cfi WHERE kind IN ('ssrdp', 'ssp_read') AND value != ssp_before"

## Sources
ISA manual, unprivileged CFI chapter, ssrdp: "if (xSSE == 1) X(dst) = ssp else X(dst) = 0".
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.instructions import done, kind
from shstk.replay.facts import Facts
from shstk.replay.rules.manual import Laws, Relation, faults_with
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import ILLEGAL_INSTRUCTION

NEEDS = ("cfi",)
APPLIES = "read of ssp"

_LAWS = Laws(
    ("ssrdp", "ssp_read"),
    faults_with(ILLEGAL_INSTRUCTION),
    Relation("fault", (kind() != "ssrdp") | done(), lambda row: "no fault"),
    Relation(
        "value",
        (pl.col("value") == pl.col("ssp_before")) | ~done(),
        lambda row: f"{row['ssp_before']:#x}",
    ),
)
GATHERS = (_LAWS,)


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_LAWS)
