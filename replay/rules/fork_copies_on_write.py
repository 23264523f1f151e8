"""After a fork each side may use its copy of a shadow stack at once.

## What it checks
The first access of a shadow-stack instruction to each page, by parent or child after a fork, does
not fault: the kernel copies the page beneath it. What stands on it is I1's: each side finds what
was there at the fork, and nothing that the other wrote since.

## Why it matters
A fork marks both sides' pages read-only until one of them writes. A push must come through that as
a plain store does, though only the kernel can make the copy a shadow-stack page again.

## When it applies
Every revision: pages of shadow stacks that a fork copied.

## Evidence columns
mms.from_mm, cause fork; cfi.mm, addr, fault after it.

## Example
    t1 fork() = 2 { t2 mm2 new_mm fork mm1; t2 created }
    t2 sspush 0x10300 fault=15

## Not a violation when
the page had been made read-only by mprotect before (V4).

## How to investigate
    shstk query RUN "SELECT * FROM mms WHERE cause = 'fork'"

## Sources
The series' "riscv mm: manufacture shadow stack pte" and "pte_mkwrite() requires vma": a write fault
on a VM_SHADOW_STACK area gives a shadow-stack page; selftests riscv/cfi, shadow_stack_fork_test.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import visits
from shstk.replay.rules.outcome import Outcome

NEEDS = ("cfi", "mappings")
APPLIES = "first access to a shadow-stack page after a fork"


def check(facts: Facts) -> Iterator[Outcome]:
    for visit in facts.visits:
        if visit.history == "forked":
            yield visits.first(visit)
