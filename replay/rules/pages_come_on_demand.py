"""The first access to a page of a shadow stack brings the page, and nothing else is to be seen.

## What it checks
The first access of a shadow-stack instruction to each page since its shadow stack was mapped does
not fault. That it finds zeros there is I1's.

## Why it matters
A shadow stack is megabytes large and a few words of it are ever used: were it not for pages on
demand, every thread would cost its whole size.

## When it applies
Every revision: pages of shadow stacks that neither a fork (V5) nor mprotect (V4) touched before.

## Evidence columns
mappings.op map, shadow_stack; cfi.addr, fault.

## Example
    t1 sspush 0x10234 fault=15
as the first push of all.

## Not a violation when
memory has run out: the task is killed by SIGKILL, and the access makes no row.

## How to investigate
    shstk query RUN "SELECT * FROM cfi WHERE addr // 4096 = <address> // 4096 ORDER BY seq"

## Sources
The series' allocate_shadow_stack: do_mmap(NULL, addr, size, PROT_READ, flags, VM_SHADOW_STACK |
VM_WRITE) without MAP_POPULATE; the page fault handler fills it, zeroed.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import visits
from shstk.replay.rules.outcome import Outcome

NEEDS = ("cfi", "mappings")
APPLIES = "first access to a page of a shadow stack"


def check(facts: Facts) -> Iterator[Outcome]:
    for visit in facts.visits:
        if visit.history == "fresh":
            yield visits.first(visit)
