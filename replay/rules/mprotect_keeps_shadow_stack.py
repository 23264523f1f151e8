"""mprotect of a shadow stack succeeds, and the memory stays a shadow stack.

## What it checks
mprotect of a range that is all shadow stack returns 0, whatever the protection. Afterwards a push
works if it includes PROT_WRITE, and raises a store/AMO page fault (15) if not.

## Why it matters
If mprotect could turn a shadow stack into ordinary memory, plain stores could forge return
addresses.

## When it applies
Every revision; pages of shadow stacks after mprotect. Calls with unknown PROT bits are skipped.

## Evidence columns
mappings.op protect, prot, ret; cfi.addr, fault after it.

## Example
    t1 mprotect(S1.base, 0x400000, PROT_READ) = 0 { protect S1 PROT_READ }
    t1 sspush 0x10234

## Not a violation when
a push faults after PROT_READ, PROT_NONE or PROT_EXEC: the program asked for that.

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE op = 'protect' AND shadow_stack"

## Sources
seen on 7.2.13: mprotect with any prot returns 0 and `ss` stays in VmFlags; after READ, NONE, R|X
and X a push is SIGSEGV, after RW, W and RWX pushes work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shstk.replay.facts import Facts, gather_visits
from shstk.replay.rules import visits, words
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.schemas.uapi import PAGE

NEEDS = ("mappings", "mappings.prot", "syscalls.a0", "syscalls.a1", "syscalls.a2")
APPLIES = "mprotect of a shadow stack, or access after one"
GATHERS = (gather_visits,)

_PROTS: Final = 7


def check(facts: Facts) -> Iterator[Outcome]:
    yield from _calls(facts)
    if facts.recorded("cfi"):
        for visit in facts.visits:
            if visit.history == "protected":
                yield visits.judge(visit)


def _calls(facts: Facts) -> Iterator[Outcome]:
    for call in facts.calls("mprotect"):
        start, end = call.a0, call.a0 + call.a1
        if start % PAGE or call.a2 & ~_PROTS or not call.a1 or call.ret is None:
            continue
        inside = facts.regions.within(call.mm, start, end, call.seq)
        covered = sum(min(r.end, end) - max(r.start, start) for r in inside if r.shadow_stack)
        if covered < call.a1:
            continue
        if not call.ret:
            yield OK
            continue
        yield Finding(
            seq=call.seq,
            tid=call.tid,
            mm=call.mm,
            addr=start,
            expected="0",
            actual=words.result(call.ret),
            note=f"mprotect({start:#x}, {call.a1:#x}, {call.a2}) of a shadow stack",
            evidence=(inside[0].made_seq, call.seq),
        )
