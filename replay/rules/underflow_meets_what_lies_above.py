"""A pop at a shadow stack's top, with nothing above it, is SEGV_MAPERR at base + size.

## What it checks
An sspopchk that faults with ssp at base + size of a live shadow stack, where nothing is mapped:
page fault (cause 15, a store/AMO one), SIGSEGV, SEGV_MAPERR (1), si_addr = base + size.

## Why it matters
It is how a return without its call ends; what comes of it depends on the neighbour, which a program
does not choose.

## When it applies
Every revision; such faults. That the pop faults there is Z8's to say.

## Evidence columns
faults.cause, word, address, signo, code, si_addr; mappings for the stack and what stands above it.

## Example
    t1 fault 15 tval=S1.top address=S1.top word=0xcdc0c073 signo=SIGSEGV code=SEGV_ACCERR

## Not a violation when
something is mapped above: then what lies there decides. An ordinary page is F5's, one that cannot
be written F6's, and another shadow stack lets the pop compare (F1).

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
APPLIES = "pop that faults at a shadow stack's top"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "above the top"):
        due = Due(STORE_PAGE, SEGV_MAPERR, fault.address or 0)
        yield judge(facts, fault, due, "at its stack's top")
