"""A shadow-stack instruction can access writable shadow-stack pages and faults elsewhere.

## What it checks
sspush, sspopchk and ssamoswap do not fault on a writable shadow-stack page. On a page that is not
writable, shadow stack or not, and on an unmapped page they raise a store/AMO page fault (15). On an
ordinary writable page they raise a store/AMO access fault (7).

## Why it matters
This separates shadow stacks from other memory: a pivot to ordinary memory must fault, and a correct
push must not.

## When it applies
Every run with cfi and mappings. If a run has only the mappings of shadow stacks, accesses elsewhere
are not judged. V5 covers the first access after a fork, V7 the first access of all, V4 pages that
mprotect changed.

## Evidence columns
cfi.addr, fault; mappings.op, start, length, prot, shadow_stack; mms.from_mm.

## Example
    t1 ssp_write DATA.top        # ordinary memory
    t1 sspush 0x10234

## Not a violation when
ssamoswap has a misaligned address: that is an access fault on any page (Z5).

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE start <= <address> ORDER BY seq"

## Sources
ISA manual, privileged CFI chapter: "If a shadow stack instruction accesses a page that is not
designated as a shadow stack page and is not marked as read-only (pte.xwr=001), a store/AMO
access-fault exception is raised"; faults of shadow-stack instructions are store/AMO faults.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts, gather_visits
from shstk.replay.rules import visits
from shstk.replay.rules.outcome import Outcome

NEEDS = ("cfi", "mappings", "mappings.prot", "mappings.input")
APPLIES = "access by a shadow-stack instruction"
GATHERS = (gather_visits,)


def check(facts: Facts) -> Iterator[Outcome]:
    for visit in facts.visits:
        if visit.history == "used":
            yield visits.judge(visit)
        elif visit.history != "protected":
            yield from visits.rest(visit)
