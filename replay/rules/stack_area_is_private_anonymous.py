"""A shadow stack is private anonymous memory that is not executable.

## What it checks
Every shadow stack is mapped with MAP_PRIVATE and MAP_ANONYMOUS, without MAP_SHARED, PROT_EXEC or a
file.

## Why it matters
If it were shared with a file or another process, its return addresses could be written from there.

## When it applies
Every revision: shadow stacks that clone, prctl or map_shadow_stack mapped.

## Evidence columns
mappings.flags, prot, input where shadow_stack.

## Example
    map S1 ss flags=MAP_SHARED|MAP_ANONYMOUS

## Not a violation when
there are other flags such as MAP_FIXED_NOREPLACE or MAP_NORESERVE: these do not change the kind of
memory.

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE shadow_stack AND op = 'map'"

## Sources
seed patch, usercfi.c, allocate_shadow_stack: "int flags = MAP_ANONYMOUS | MAP_PRIVATE;" and its
do_mmap with VM_SHADOW_STACK; seen on 7.2.13 as `ss` in VmFlags of smaps.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.uapi import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC

NEEDS = ("mappings[shadow_stack]",)
ALSO = ("mappings.prot", "mappings.input")
APPLIES = "new shadow stack"

_ALL = MAP_ANONYMOUS | MAP_PRIVATE | MAP_SHARED


def check(facts: Facts) -> Iterator[Outcome]:
    for m in facts.mappings:
        if m.op != "map" or not m.shadow_stack or not m.done:
            continue
        if m.flags is None:
            yield Unknown("the flags of mappings are not recorded")
            continue
        private = m.flags & _ALL == MAP_ANONYMOUS | MAP_PRIVATE
        if private and m.input is None and not (m.prot or 0) & PROT_EXEC:
            yield OK
            continue
        yield Finding(
            seq=m.seq,
            tid=m.tid,
            mm=m.mm,
            addr=m.start,
            expected="MAP_PRIVATE|MAP_ANONYMOUS, no file, no PROT_EXEC",
            actual=f"flags {m.flags:#x}, prot {m.prot or 0:#x}"
            + (f", input {m.input}" if m.input is not None else ""),
            note=f"shadow stack {m.area}",
            evidence=(m.seq,),
        )
