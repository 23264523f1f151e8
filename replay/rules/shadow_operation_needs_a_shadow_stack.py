"""A shadow-stack operation on an ordinary page is a SIGSEGV whose si_addr is the pc.

## What it checks
sspush, sspopchk or ssamoswap on a writable page that is no shadow stack: an access fault (cause 7),
SIGSEGV, SEGV_ACCERR (2), si_addr = the pc and not the data address; the signal that the task then
gets says the same.

## Why it matters
It stops a program, or who has taken it over, that leads ssp to a stack of forged return addresses;
a handler that looks for ssp in si_addr finds the pc.

## When it applies
Every revision; every such fault. That the instruction must fault there is Z8's to say.

## Evidence columns
faults.cause, word, address, pc, signo, code, si_addr; mappings for what stands at the address.

## Example
    t1 fault 15 tval=0x7000_0ff8 address=0x7000_0ff8 word=0xce104073 signo=SIGSEGV code=SEGV_ACCERR
with ordinary memory at 0x7000_0000.

## Not a violation when
the page may not be written, or nothing is there: page faults, and F6's, F7's or F8's. A misaligned
ssamoswap is an access fault on any page.

## How to investigate
    shstk query RUN "SELECT * FROM faults WHERE cause = 7"

## Sources
Manual, Zicfiss: a shadow-stack instruction on a page that is no shadow stack is a store/AMO access
fault; arch/riscv, traps.c: si_addr of access faults is the pc. (QEMU lets them pass on ordinary
writable pages; the manual's word holds.)
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
APPLIES = "fault of a shadow-stack operation on an ordinary page"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "ordinary page"):
        due = at_pc(fault, STORE_ACCESS, SEGV_ACCERR)
        yield judge(facts, fault, due, "on a page that is no shadow stack")
