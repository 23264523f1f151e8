"""sspush stores one word below ssp and moves ssp there.

## What it checks
Every sspush stores to ssp - 8 and sets ssp to it. One that traps leaves ssp unchanged; it can only
raise a store/AMO access fault (7) or page fault (15).

## Why it matters
The return address must be where the pop reads it, and a push that failed must be restartable.

## When it applies
Every run with cfi, whatever the kernel.

## Evidence columns
cfi.addr, ssp_before, ssp_after, fault of kind sspush.

## Example
    t1 sspush 0x10234 ssp_after=S1.top-16

## Not a violation when
the page cannot be pushed to: the push traps, and Z8 judges which fault it raises.

## How to investigate
    shstk query RUN "SELECT * FROM cfi WHERE seq = <seq>"

## Sources
ISA manual, unprivileged CFI chapter, sspush: "mem[ssp - (XLEN/8)] = X(src); ssp = ssp - (XLEN/8)";
"The ssp is decremented by sspush only if the store to the shadow stack completes successfully."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules.manual import Laws, faults_with
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import STORE_ACCESS, STORE_PAGE

NEEDS = ("cfi",)
APPLIES = "sspush"

_LAWS = Laws(("sspush",), faults_with(STORE_ACCESS, STORE_PAGE))
GATHERS = (_LAWS,)


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_LAWS)
