"""After a fork, parent and child can use their copies of a shadow stack at once.

## What it checks
The first access of a shadow-stack instruction to each page, by parent or child after a fork, does
not fault: the kernel copies the page. I1 judges the contents: each side reads what was there at the
fork, and nothing that the other wrote since.

## Why it matters
A fork makes the pages read-only on both sides until one of them writes. A push must succeed as a
plain store does, though only the kernel can make the copy a shadow-stack page again.

## When it applies
Every revision: pages of shadow stacks that a fork copied.

## Evidence columns
mms.from_mm, cause fork; cfi.mm, addr, fault after it.

## Example
    t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 created }
    t2 sspush 0x10300 fault=15

## Not a violation when
mprotect had made the page read-only before (V4).

## How to investigate
    shstk query RUN "SELECT * FROM mms WHERE cause = 'fork'"

## Sources
The series' "riscv mm: manufacture shadow stack pte" and "pte_mkwrite() requires vma": a write fault
on a VM_SHADOW_STACK area gives a shadow-stack page; selftests riscv/cfi, shadow_stack_fork_test.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts, gather_visits
from shstk.replay.rules import visits
from shstk.replay.rules.outcome import Outcome

NEEDS = ("cfi", "mappings")
APPLIES = "first access to a shadow-stack page after a fork"
GATHERS = (gather_visits,)


def check(facts: Facts) -> Iterator[Outcome]:
    for visit in facts.visits:
        if visit.history == "forked":
            yield visits.first(visit)
