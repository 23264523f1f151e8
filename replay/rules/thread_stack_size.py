"""A thread's shadow stack has the requested size, or the default.

## What it checks
The length of the shadow stack mapped for a thread is PAGE_ALIGN(stack_size) if clone3 passed one.
Otherwise it is the revision's PAGE_ALIGN(min(RLIMIT_STACK / div, cap)), with the parent's limit.

## Why it matters
A stack that is too small overflows into the guard page. The memory of one that is too large is
accounted: with the seed's 4 GiB under an unlimited stack, a few threads exhaust a machine.

## When it applies
Every shadow stack that a clone maps for a child of an enabled task; the clone may fail afterwards.
The size follows the revision under both expectations: 1:4G to 7.0, 2:2G in 7.1 and 7.2, 8:512M in
7.3.

## Evidence columns
clones.stack_size; mappings.length within the clone; manifest.rlimits; kernel_memory of prlimit64.

## Example
    t1 clone3(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND, stack_size=0x20001) = 2 { map 0x20000@… ss }
0x21000 is expected.

## Not a violation when
the legacy clone is used with a large stack: it passes no size, so the default applies.

## How to investigate
    shstk kernels
    shstk query RUN "SELECT seq, length FROM mappings WHERE shadow_stack AND op = 'map'"

## Sources
seed patch, usercfi.c, calc_shstk_size: "If size is 0, then to be compatible with regular stack we
want it to be as big as regular stack. Else PAGE_ALIGN it and return back".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "shadow stack mapped by a clone"
RESTS_ON = ("clone_gate", "default_size")


def check(facts: Facts) -> Iterator[Outcome]:
    for clone in facts.history.clones:
        stack = clone.mapped.stack
        if not clone.due or stack is None:
            continue
        if clone.size is None:
            yield Unknown("RLIMIT_STACK was set to a value that is not recorded")
        elif stack.size == clone.size:
            yield OK
        else:
            child = clone.child
            made = clone.mapped.made[0]
            asked = f"stack_size {clone.row.stack_size:#x}" if clone.row.stack_size else "default"
            yield Finding(
                seq=made.seq,
                tid=child.tid if child else clone.row.tid,
                mm=made.mm,
                addr=stack.base,
                expected=f"{clone.size:#x} bytes ({words.size(clone.size)}, {asked})",
                actual=f"{stack.size:#x} bytes ({words.size(stack.size)})",
                note=f"the stack that task {clone.row.tid}'s clone maps has the wrong size",
                evidence=(clone.seq, made.seq),
            )
