"""A page fault of a shadow-stack operation reports the data address.

## What it checks
A shadow-stack operation on a page without VM_WRITE, or an ordinary store to a shadow stack without
it, is a store/AMO page fault (cause 15, also for sspopchk) and raises SIGSEGV with SEGV_ACCERR (2).
A page of code may raise an access fault instead, which F5 judges: it does so once it is present.
A shadow-stack operation on an unmapped page is cause 15 and raises SEGV_MAPERR (1). si_addr and
stval are the data address: ssp - 8 for a push, ssp for a pop.

## Why it matters
It distinguishes running off a stack from writing to a protected page. For access faults si_addr is
the pc instead (F3, F5).

## When it applies
Every revision; such faults except directly below (F7) and directly above (F8) a shadow stack.

## Evidence columns
faults.cause, tval, word, address, signo, code, si_addr; mappings for the area at the address.

## Example
    t1 fault 15 tval=0x6000_0ff8 address=0x6000_0ff8 word=0xce104073 signo=SIGSEGV code=SEGV_ACCERR
where nothing is mapped at 0x6000_0000.

## Not a violation when
the memory is mapped from a file and is past its end: SIGBUS.

## How to investigate
    shstk query RUN "SELECT * FROM faults WHERE cause = 15"

## Sources
arch/riscv, fault.c, as for any page fault; manual, Zicfiss: memory faults of shadow-stack
instructions are store/AMO faults; seen on 7.2.13 (faults: sspush_on_ro_page, sspush_on_unmapped,
sspopchk_on_ro_page, sspopchk_on_unmapped, ssamoswap_ro_page).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.rows import Fault
from shstk.replay.facts import Facts
from shstk.replay.rules import memory_faults
from shstk.replay.rules.memory_faults import Due, judge, wrong
from shstk.replay.rules.outcome import OK, Outcome
from shstk.schemas.causes import STORE_PAGE
from shstk.schemas.uapi import SEGV_ACCERR, SEGV_MAPERR

NEEDS = ("faults", "mappings")
ALSO = ("signals",)
APPLIES = "fault of a shadow-stack operation on a read-only or unmapped page"


_CODES = {"unmapped": SEGV_MAPERR, "read-only page": SEGV_ACCERR}


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, *_CODES):
        yield _judge(facts, fault)


def _judge(facts: Facts, fault: Fault) -> Outcome:
    case, address = memory_faults.case_of(facts, fault), fault.address or 0
    outcome = judge(facts, fault, Due(STORE_PAGE, _CODES[case], address), case)
    if outcome is OK and fault.tval != address:
        return wrong(fault, f"stval {address:#x}", f"stval {fault.tval:#x}", "the data address")
    return outcome
