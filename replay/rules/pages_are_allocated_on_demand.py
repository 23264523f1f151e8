"""The first access to a page of a shadow stack allocates the page and does not fault.

## What it checks
The first access of a shadow-stack instruction to each page since its shadow stack was mapped does
not fault. I1 checks that it reads zeros.

## Why it matters
A shadow stack has megabytes, of which few words are ever used. Without demand paging every thread
would cost its whole size.

## When it applies
Every revision: pages of shadow stacks not yet affected by a fork (V5) or mprotect (V4).

## Evidence columns
mappings.op map, shadow_stack; cfi.addr, fault.

## Example
    t1 sspush 0x10234 fault=15
as the run's first push.

## Not a violation when
memory runs out: SIGKILL kills the task, and the access has no row.

## How to investigate
    shstk query RUN "SELECT * FROM cfi WHERE addr // 4096 = <address> // 4096 ORDER BY seq"

## Sources
The series' allocate_shadow_stack: do_mmap(NULL, addr, size, PROT_READ, flags, VM_SHADOW_STACK |
VM_WRITE) without MAP_POPULATE; the page fault handler fills it, zeroed.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts, gather_visits
from shstk.replay.rules import visits
from shstk.replay.rules.outcome import Outcome

NEEDS = ("cfi", "mappings")
APPLIES = "first access to a page of a shadow stack"
GATHERS = (gather_visits,)


def check(facts: Facts) -> Iterator[Outcome]:
    for visit in facts.visits:
        if visit.history == "fresh":
            yield visits.first(visit)
