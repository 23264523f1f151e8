"""map_shadow_stack maps one area, at the requested address, and never replaces a mapping.

## What it checks
A call that no other rule refuses maps one shadow stack of the page-aligned size. With an address it
is mapped exactly there, or the call returns -EEXIST because something is mapped in the range;
without one the kernel chooses a free range.

## Why it matters
A shadow stack mapped over live memory destroys it; one mapped elsewhere is not where the caller
needs it.

## When it applies
Every revision; calls with known flags, an aligned address if any, and a possible size.

## Evidence columns
syscalls.a0, a1, ret of map_shadow_stack; mappings, before and within the call.

## Example
    t1 map_shadow_stack(0x7000_0000, 0x1000, 0) = 0x7100_0000 { map 0x1000@0x7100_0000 ss }

## Not a violation when
there is no room or memory for it (-ENOMEM), or the token cannot be written (M8).

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE start <= <addr> AND start + length > <addr>"

## Sources
usercfi.c as merged, allocate_shadow_stack: "if (addr) flags |= MAP_FIXED_NOREPLACE"; seen on
7.2.13: -17 for an occupied range.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.rows import Area
from shstk.replay.derive.stack_maps import StackMap
from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping, words
from shstk.replay.rules.outcome import OK, Outcome, Unknown
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls", "mappings", "syscalls.mm")
APPLIES = "map_shadow_stack that nothing else refuses"

_EEXIST, _ENOMEM = -ERRNO["EEXIST"], -ERRNO["ENOMEM"]


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "good"):
        yield _judge(step)
    for step in stack_mapping.of(facts, "token unaligned"):
        if step.taken:  # the kernel checks this before the token
            yield _judge(step)


def _judge(step: StackMap) -> Outcome:
    ret = step.row.ret
    if ret is None:
        return Unknown("the call did not return")
    if ret == _ENOMEM:
        return Unknown("there was no room or memory for it")
    if step.failed and step.made:
        return Unknown("mapped, and unmapped again because of the token")
    if step.addr and step.taken:
        if ret == _EEXIST:
            return OK
        return stack_mapping.wrong(
            step, words.result(_EEXIST), stack_mapping.answer(step), "the range is occupied"
        )
    if step.failed:
        expected = f"{words.size(step.length)} mapped"
        return stack_mapping.wrong(step, expected, stack_mapping.answer(step), "nothing forbids it")
    if step.taken:
        return stack_mapping.wrong(
            step, "a free range", stack_mapping.answer(step), "something was mapped there"
        )
    base = step.addr or (step.made[0].start if step.made else None)
    due = Area(base or 0, step.length)
    if [m.area for m in step.made] == [due]:
        return OK
    expected = f"{due} mapped" if base else f"{words.size(step.length)} mapped"
    actual = f"mapped {words.areas(step.made)}"
    return stack_mapping.wrong(step, expected, actual, "address and size")
