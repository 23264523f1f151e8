"""An ordinary store to a shadow stack is an access fault: SIGSEGV with the pc in si_addr.

## What it checks
A store, an AMO or an SC to a writable shadow-stack page has cause 7 and raises SIGSEGV with
SEGV_ACCERR (2) and si_addr = the pc of the instruction, not the data address. If instructions were
recorded, none that retired stored to a live shadow stack.

## Why it matters
This protects the return addresses. The pc in si_addr surprises handlers that expect the data
address there.

## When it applies
Every revision; such faults and, with --trace insn, such instructions. A page that is absent or
shared with a fork's copy first faults with 15, which Linux handles transparently; the retry faults
with 7.

## Evidence columns
faults.cause, word, address, pc, signo, code, si_addr; mappings for the area at the address;
insn.word, mem_addr.

## Example
    t1 fault 15 tval=S1.top-8 address=S1.top-8 word=0x00b53023 signo=SIGSEGV code=SEGV_ACCERR

## Not a violation when
mprotect removed VM_WRITE from the shadow stack: that is a page fault (F6); or a debugger writes.

## How to investigate
    shstk query RUN "SELECT * FROM faults WHERE cause = 7"

## Sources
Manual, Zicfiss: an ordinary store to a shadow-stack page is a store/AMO access fault; arch/riscv,
traps.c: si_addr of access faults is the pc; seen on 7.2.13 (faults: store_sd_touched_ss_page,
store_sd_untouched_ss_page, amoadd_ss, lr_sc_ss).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.memory_access import STORES
from shstk.replay.derive.plain_accesses import plain_accesses
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import memory_faults
from shstk.replay.rules.memory_faults import at_pc, judge
from shstk.replay.rules.outcome import Finding, Outcome
from shstk.schemas.causes import STORE_ACCESS
from shstk.schemas.uapi import SEGV_ACCERR

NEEDS = (*STATE, "mappings", "faults")
ALSO = ("signals", "insn")
APPLIES = "ordinary store to a shadow stack"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "store"):
        due = at_pc(fault, STORE_ACCESS, SEGV_ACCERR)
        yield judge(facts, fault, due, "an ordinary store to a shadow stack")
    for row in plain_accesses(facts.run, facts.ledger, STORES).iter_rows(named=True):
        stack = facts.stacks[row["mark"]]
        yield Finding(
            seq=row["seq"],
            tid=row["tid"],
            mm=row["mm"],
            addr=row["addr"],
            expected="an access fault",
            actual="it took effect",
            note=f"{row['access']} at {row['pc']:#x} to {stack.name}",
            evidence=(stack.step, row["seq"]),
        )
