"""A shadow-stack operation on an ordinary page raises SIGSEGV with the pc in si_addr.

## What it checks
sspush, sspopchk or ssamoswap on a writable page that is not a shadow stack is an access fault
(cause 7) and raises SIGSEGV with SEGV_ACCERR (2) and si_addr = the pc, not the data address. The
signal that is delivered has the same values.

## Why it matters
It stops a program, or its attacker, from pivoting ssp to a stack of forged return addresses. A
handler that expects ssp in si_addr finds the pc.

## When it applies
Every revision; every such fault. Z8 checks that the instruction faults there.

## Evidence columns
faults.cause, word, address, pc, signo, code, si_addr; mappings for the area at the address.

## Example
    t1 fault 15 tval=0x7000_0ff8 address=0x7000_0ff8 word=0xce104073 signo=SIGSEGV code=SEGV_ACCERR
where ordinary memory is mapped at 0x7000_0000.

## Not a violation when
the page is read-only or unmapped: that is a page fault (F6, F7, F8). A misaligned ssamoswap is an
access fault on any page.

## How to investigate
    shstk query RUN "SELECT * FROM faults WHERE cause = 7"

## Sources
Manual, Zicfiss: a shadow-stack instruction on a page that is not a shadow stack raises a store/AMO
access fault; arch/riscv, traps.c: si_addr of access faults is the pc. (QEMU allows them on ordinary
writable pages; the rule follows the manual.)
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import memory_faults
from shstk.replay.rules.memory_faults import at_pc, judge
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import STORE_ACCESS
from shstk.schemas.uapi import SEGV_ACCERR

NEEDS = ("faults", "mappings")
ALSO = ("signals",)
APPLIES = "fault of a shadow-stack operation on an ordinary page"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "ordinary page"):
        due = at_pc(fault, STORE_ACCESS, SEGV_ACCERR)
        yield judge(facts, fault, due, "on a page that is not a shadow stack")
