"""A pop at a shadow stack's top, with nothing mapped above, raises SEGV_MAPERR at base + size.

## What it checks
An sspopchk that faults with ssp at base + size of a live shadow stack, with nothing mapped there,
is a store/AMO page fault (cause 15) and raises SIGSEGV with SEGV_MAPERR (1) and si_addr = base +
size.

## Why it matters
A return without its call ends this way. The outcome depends on the neighbouring mapping, which the
program does not choose.

## When it applies
Every revision; such faults. Z8 checks that the pop faults there.

## Evidence columns
faults.cause, word, address, signo, code, si_addr; mappings for the stack and the area above it.

## Example
    t1 fault 15 tval=S1.top address=S1.top word=0xcdc0c073 signo=SIGSEGV code=SEGV_ACCERR

## Not a violation when
something is mapped above, which then decides: F5 covers an ordinary page, F6 a read-only one, and
on another shadow stack the pop compares (F1).

## How to investigate
    shstk stacks RUN
    shstk query RUN "SELECT * FROM faults WHERE cause = 15"

## Sources
arch/riscv, fault.c, as for any page fault; seen on 7.2.13 (faults: sspopchk_underflow_at_end).
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
APPLIES = "pop that faults at a shadow stack's top"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "above the top"):
        due = Due(STORE_PAGE, SEGV_MAPERR, fault.address or 0)
        yield judge(facts, fault, due, "at its stack's top")
