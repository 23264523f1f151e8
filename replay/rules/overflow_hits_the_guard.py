"""A push below a shadow stack's base hits the guard page and raises SEGV_MAPERR at base - 8.

## What it checks
An sspush that faults with ssp at the base of a live shadow stack, with nothing mapped below, is a
store/AMO page fault (cause 15) and raises SIGSEGV with SEGV_MAPERR (1) and si_addr = base - 8.

## Why it matters
This is how recursion that is too deep shows, even to a handler on an alternate stack. (The token of
the handler needs the shadow stack too: it cannot be pushed, so the task dies.)

## When it applies
Every revision; such faults. V2 checks that the page below is free, Z8 that the push faults.

## Evidence columns
faults.cause, word, address, signo, code, si_addr; mappings for the stack and the area below it.

## Example
    t1 fault 15 tval=S1.base-8 address=S1.base-8 word=0xce104073 signo=SIGSEGV code=SEGV_ACCERR

## Not a violation when
the program has mapped something directly below with MAP_FIXED: that area decides (F5, F6).

## How to investigate
    shstk stacks RUN
    shstk query RUN "SELECT * FROM faults WHERE cause = 15"

## Sources
Linux keeps a guard page below every shadow stack that it places; seen on 7.2.13 (faults:
sspush_overflow_at_base).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import memory_faults
from shstk.replay.rules.memory_faults import Due, judge
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import STORE_PAGE
from shstk.schemas.uapi import SEGV_MAPERR

NEEDS = (*STATE, "faults", "mappings")
ALSO = ("signals",)
APPLIES = "push that faults below a shadow stack's base"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "below the base"):
        due = Due(STORE_PAGE, SEGV_MAPERR, fault.address or 0)
        yield judge(facts, fault, due, "below its stack's base")
