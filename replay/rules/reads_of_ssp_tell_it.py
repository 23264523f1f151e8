"""ssrdp and reads of csr ssp give ssp and leave it.

## What it checks
Every ssrdp and every csr instruction that only reads ssp gives what ssp is, and does not move it.
ssrdp never traps; a read of csr ssp traps with an illegal instruction (2) only.

## Why it matters
setjmp, ucontext and unwinders save what these give, and come back to it.

## When it applies
Every run that recorded cfi, whatever the kernel.

## Evidence columns
cfi.value, ssp_before, ssp_after, fault of kinds ssrdp and ssp_read.

## Example
    t1 ssrdp value=S1.top-8
with ssp at S1.top.

## Not a violation when
shadow stacks are off: csr ssp is illegal then (Z7), and ssrdp gives 0 and makes no row.

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
from shstk.replay.rules.manual import Relation, faults_with, judge
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import ILLEGAL_INSTRUCTION

NEEDS = ("cfi",)
APPLIES = "read of ssp"


def check(facts: Facts) -> Iterator[Outcome]:
    yield from judge(
        facts,
        ("ssrdp", "ssp_read"),
        faults_with(ILLEGAL_INSTRUCTION),
        Relation("fault", (kind() != "ssrdp") | done(), lambda row: "no fault"),
        Relation(
            "value",
            (pl.col("value") == pl.col("ssp_before")) | ~done(),
            lambda row: f"{row['ssp_before']:#x}",
        ),
    )
