"""An ordinary store to a shadow stack is an access fault, and a SIGSEGV whose si_addr is the pc.

## What it checks
A store, an AMO or an SC to a writable shadow-stack page: cause 7, SIGSEGV, SEGV_ACCERR (2), si_addr
= the pc of the instruction and not the data address. Where instructions were recorded, none of them
that retired stored to a live shadow stack.

## Why it matters
This is what protects the return addresses. That si_addr is the pc surprises handlers that look for
the data address there.

## When it applies
Every revision; such faults, and, with --trace insn, such instructions. A page that is absent or
shared with a fork's copy faults with 15 first, which Linux settles unseen; the retry gives 7.

## Evidence columns
faults.cause, word, address, pc, signo, code, si_addr; mappings for what stands at the address;
insn.word, mem_addr.

## Example
    t1 fault 15 tval=S1.top-8 address=S1.top-8 word=0x00b53023 signo=SIGSEGV code=SEGV_ACCERR

## Not a violation when
mprotect took the shadow stack's VM_WRITE: then it is a page fault, and F6's; or a debugger writes.

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

NEEDS = (*STATE, "mappings")
APPLIES = "ordinary store to a shadow stack"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "store"):
        due = at_pc(fault, STORE_ACCESS, SEGV_ACCERR)
        yield judge(facts, fault, due, "an ordinary store to a shadow stack")
    for row in plain_accesses(facts.run, facts.stacks, STORES).iter_rows(named=True):
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
