"""Where a shadow stack may not be written, or nothing is, the page fault tells the data address.

## What it checks
A shadow-stack operation on a page without VM_WRITE, or an ordinary store to a shadow stack without
it: store/AMO page fault (cause 15, sspopchk's too), SIGSEGV, SEGV_ACCERR (2). A shadow-stack
operation where nothing is mapped: cause 15, SEGV_MAPERR (1). si_addr and stval are the data
address: ssp - 8 of a push, ssp of a pop.

## Why it matters
It tells apart what ran off its stack from what wrote where it must not; for access faults si_addr
is the pc instead (F3, F5).

## When it applies
Every revision; such faults anywhere but just below a shadow stack (F7) and just above one (F8).

## Evidence columns
faults.cause, tval, word, address, signo, code, si_addr; mappings for what stands at the address.

## Example
    t1 fault 15 tval=0x6000_0ff8 address=0x6000_0ff8 word=0xce104073 signo=SIGSEGV code=SEGV_ACCERR
with nothing mapped at 0x6000_0000.

## Not a violation when
the memory is a file's and lies past its end: SIGBUS.

## How to investigate
    shstk query RUN "SELECT * FROM faults WHERE cause = 15"

## Sources
arch/riscv, fault.c, as for any page fault; manual, Zicfiss: memory faults of shadow-stack
instructions are store/AMO ones; seen on 7.2.13 (faults: sspush_on_ro_page, sspush_on_unmapped,
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
APPLIES = "fault of a shadow-stack operation where none can be written"


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
