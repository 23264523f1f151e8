"""Ordinary loads and LR can read a shadow stack.

## What it checks
No load and no LR from a readable shadow-stack page faults. If instructions were recorded, those
that retired are counted.

## Why it matters
Unwinders, debuggers and programs that check their own stack read return addresses there.

## When it applies
Every revision; loads that faulted and, with --trace insn, those that did not.

## Evidence columns
faults.cause, word, address; mappings for the area at the address; insn.word, mem_addr.

## Example
    t1 fault 5 address=S1.top-8 word=0x00053503 signo=SIGSEGV code=SEGV_ACCERR

## Not a violation when
mprotect removed both VM_READ and VM_WRITE (PROT_NONE or PROT_EXEC alone): a load is then a SIGSEGV.

## How to investigate
    shstk query RUN "SELECT * FROM faults WHERE cause IN (5, 13)"

## Sources
Manual, Zicfiss: ordinary loads from shadow-stack pages are allowed; seen on 7.2.13 (faults: lr_ss),
where mprotect to PROT_NONE and PROT_EXEC makes them fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shstk.replay.derive.memory_access import LOADS
from shstk.replay.derive.plain_accesses import plain_accesses
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import memory_faults
from shstk.replay.rules.memory_faults import while_off, wrong
from shstk.replay.rules.outcome import Outcome, Satisfied

NEEDS = (*STATE, "mappings", "mappings.flags")
ALSO = ("insn",)
APPLIES = "ordinary load from a shadow stack"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "load"):
        found = wrong(fault, "no fault", f"cause {fault.cause}", "a shadow stack may be read")
        yield replace(found, deviation=while_off(facts, fault))
    if count := plain_accesses(facts.run, facts.ledger, LOADS).height:
        yield Satisfied(count)
