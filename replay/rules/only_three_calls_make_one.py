"""Only clone, prctl and map_shadow_stack create a shadow stack; no call turns memory into one.

## What it checks
Every shadow stack is mapped within clone, clone3, PR_SET or map_shadow_stack. Rows of mprotect,
mremap and madvise have shadow_stack set if and only if one of these calls created the area; rows of
munmap have it set at least there.

## Why it matters
If a program could write memory and then turn it into a shadow stack, an attacker could choose the
return addresses.

## When it applies
Every revision.

## Evidence columns
mappings.op, shadow_stack, during; syscalls.nr.

## Example
    t1 mmap(0, 0x1000, 3, 34, -1, 0) = S1.base { map S1 ss }

## Not a violation when
mremap moves or grows an existing shadow stack, or a fork copies it.

## How to investigate
    shstk query RUN "SELECT m.*, s.name FROM mappings m JOIN syscalls s ON m.during = s.seq"

## Sources
mm/mmap.c, arch_validate_flags and calc_vm_prot_bits have no PROT or MAP bit for VM_SHADOW_STACK on
riscv; in the seed patch, only usercfi.c, allocate_shadow_stack sets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from shstk.replay.derive.rows import Area, Mapping
from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.syscalls import name_of

NEEDS = ("mappings",)
APPLIES = "operation that created or changed a shadow stack"

_MAKERS: Final = ("clone", "clone3", "prctl", "map_shadow_stack")


def check(facts: Facts) -> Iterator[Outcome]:
    makers = [m.during for m in facts.mappings if _makes(m) and m.during is not None]
    calls = facts.run.scan("syscalls").filter(pl.col("seq").is_in(makers)).select("seq", "nr")
    within = dict(calls.collect().iter_rows())
    for m in facts.mappings:
        if not m.done:
            continue
        if m.op == "map":
            if _makes(m):
                yield _made(m, within)
        elif (known := _stood(facts, m)) != m.shadow_stack and (known or m.op != "unmap"):
            was = "a shadow stack" if known else "no shadow stack"
            recorded = "a shadow stack" if m.shadow_stack else "no shadow stack"
            yield _finding(m, was, recorded, "by what was mapped there before")
        elif known:
            yield OK


def _makes(m: Mapping) -> bool:
    return m.op == "map" and m.shadow_stack and m.done


def _made(m: Mapping, within: dict[int, int]) -> Outcome:
    nr = within.get(m.during) if m.during is not None else None
    if nr is None:
        return Unknown("the call in which it was mapped is not recorded")
    if name_of(nr) in _MAKERS:
        return OK
    return _finding(m, "clone, prctl or map_shadow_stack", name_of(nr), "the call that created it")


def _stood(facts: Facts, m: Mapping) -> bool:
    """Whether a shadow stack was mapped in the range that the operation removed or changed."""
    start, length = m.area.base, m.length
    if m.op == "remap":  # its row is about the area at the old address
        start, length = m.old_start or 0, 1
    return facts.ledger.touches(m.mm, Area(start, length), m.seq)


def _finding(m: Mapping, expected: str, actual: str, why: str) -> Finding:
    return Finding(
        seq=m.seq,
        tid=m.tid,
        mm=m.mm,
        addr=m.start,
        expected=expected,
        actual=actual,
        note=f"{m.op} {m.area}: {why}",
        evidence=(m.seq,) if m.during is None else (m.during, m.seq),
    )
