"""A shadow stack has at most 4 MiB.

## What it checks
No shadow stack is larger than 4 MiB when it is mapped.

## Why it matters
The boards of this vendor have little memory, and no overcommit.

## When it applies
Every revision.

## Evidence columns
mappings.op map, length, shadow_stack.

## Example
    map 8M@0x7fff_e000_0000 ss

## Not a violation when
the stack is a fork's copy.

## How to investigate
    shstk stacks RUN

## Sources
The vendor's memory budget, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome

ID = "ACME1"
SEVERITY = "warning"
NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "shadow stack that was mapped"
LIMIT = 4 << 20


def check(facts: Facts) -> Iterator[Outcome]:
    for stack in facts.stacks:
        if stack.how == "fork copy":
            continue
        if stack.area.size <= LIMIT:
            yield OK
            continue
        yield Finding(
            seq=stack.seq,
            tid=stack.by,
            mm=stack.mm,
            addr=stack.area.base,
            expected="at most 4 MiB",
            actual=f"{stack.area.size >> 20} MiB",
            note=stack.name,
            evidence=(stack.seq,),
        )
