"""A shadow-stack instruction may go to a writable shadow-stack page, and faults everywhere else.

## What it checks
On a shadow-stack page that is writable sspush, sspopchk and ssamoswap do not fault. On a page that
is not writable, shadow stack or not, or where nothing is mapped, they raise a store/AMO page fault
(15); on an ordinary writable page a store/AMO access fault (7).

## Why it matters
It is the border around the shadow stack: a pivot to ordinary memory must be stopped, and a right
push must not.

## When it applies
Every run that recorded cfi and mappings. Where a run tells only of shadow stacks, accesses
elsewhere are not judged. The first access after a fork is V5's, the first of all V7's, and pages
that mprotect changed are V4's.

## Evidence columns
cfi.addr, fault; mappings.op, start, length, prot, shadow_stack; mms.from_mm.

## Example
    t1 ssp_write DATA.top        # ordinary memory
    t1 sspush 0x10234

## Not a violation when
ssamoswap stands on no word: that is an access fault on any page (Z5).

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE start <= <address> ORDER BY seq"

## Sources
ISA manual, privileged CFI chapter: "If a shadow stack instruction accesses a page that is not
designated as a shadow stack page and is not marked as read-only (pte.xwr=001), a store/AMO
access-fault exception is raised"; faults of shadow-stack instructions are store/AMO faults.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import visits
from shstk.replay.rules.outcome import Outcome

NEEDS = ("cfi", "mappings")
APPLIES = "access by a shadow-stack instruction"


def check(facts: Facts) -> Iterator[Outcome]:
    for visit in facts.visits:
        if visit.history == "used":
            yield visits.judge(visit)
        elif visit.history != "protected":
            yield from visits.rest(visit)
