"""No task uses a shadow stack after its release.

## What it checks
No sspush, sspopchk or ssamoswap, faulting or not, accesses a range that was a shadow stack, or a
part of one, and was released by its owner's exit, exec or PR_SET(0), or by the program's munmap.

## Why it matters
It is a use after free of return addresses. At best it faults; if the range is mapped again, it
reads and writes another task's.

## When it applies
Every run with cfi.

## Evidence columns
cfi.addr, fault; mappings.op unmap and the event it is during.

## Example
    t2 exit(0) { exit_begin 0; unmap S2; mm_dropped 1 }
    t1 ssp_write S2.top-16
    t1 sspopchk 0x10300 fault=15

## Not a violation when
the task itself had unmapped the stack that it was on, and faults: that is allowed. X5, A10, X3 and
P8 cover a stack that another task unmapped, and its owner's later fault.

## How to investigate
    shstk stacks RUN <address>

## Sources
seed patch, usercfi.c, shstk_release: "vm_munmap(base, size)"; the pages are no longer a shadow
stack afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.history import Task
from shstk.replay.derive.sharing import on_stacks, total
from shstk.replay.derive.stacks import Stack
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import Finding, Outcome, Satisfied

NEEDS = ("cfi", *STATE, "mappings[shadow_stack]")
APPLIES = "access to a known shadow stack"

_PROGRAMS_OWN = ("munmap", "mmap", "mremap")


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_accesses)


def _accesses(facts: Facts) -> Gather[list[Outcome]]:
    reported: set[tuple[Stack, Task | None]] = set()
    found: list[Outcome] = []
    while piece := (yield):
        rows = piece.brief.filter(pl.col("addr").is_not_null())
        legs, others = on_stacks(rows, facts.ledger)
        late = others.filter(pl.col("gone").is_not_null()).sort("seq")
        if count := total(legs) + total(others) - total(late):
            found.append(Satisfied(count))
        found += _late(facts, late, reported)
    return found


GATHERS = (_accesses,)


def _late(
    facts: Facts, late: pl.DataFrame, reported: set[tuple[Stack, Task | None]]
) -> Iterator[Outcome]:
    """Accesses to released pieces; only the first of each task to each stack is reported."""
    names = ["seq", "tid", "mm", "addr", "fault", "mark", "gone"]
    for seq, tid, mm, addr, fault, mark, gone in late.select(names).iter_rows():
        stack, end = facts.stacks[mark], facts.ledger.ended(gone)
        user, ender = facts.history.task(tid, seq), facts.history.task(end.by, end.seq)
        if (stack, user) in reported:
            continue
        owners = stack.owner is not None and stack.owner is ender
        own_doing = end.how in _PROGRAMS_OWN and (user is not ender or fault is None)
        if not (own_doing or (end.how in ("exit", "exec", "prctl") and owners)):
            continue
        reported.add((stack, user))
        yield Finding(
            seq=seq,
            tid=tid,
            mm=mm,
            addr=addr,
            expected=f"no access to {stack.taken(addr, gone)} after task {end.by}'s {end.how}",
            actual=f"access to {addr:#x}" + (f", fault {fault}" if fault is not None else ""),
            note=f"{stack.name} was released by task {end.by}'s {end.how}",
            evidence=(stack.step, end.seq, seq),
        )
