"""The kernel stores to and loads from mapped memory.

## What it checks
Each row of kernel_memory covers bytes that are mapped in its address space at that moment, and a
swap has eight old and eight new bytes. A word that the kernel reads or swaps on a shadow stack is
the word that was last written there.

## Why it matters
Tokens, frames and clear_child_tid are read from these rows.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
kernel_memory.op, addr, bytes; mappings.

## Example
    mem_write 0x10 u32:0
where nothing is mapped.

## Not a violation when
the access is below the lowest page of a stack that grows: the kernel grows the stack first.

## How to investigate
    shstk query RUN "SELECT * FROM kernel_memory WHERE addr = <address>"

## Sources
docs/schema.md, kernel_memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shstk.replay.facts import Facts, gather_loads
from shstk.replay.rules import trace
from shstk.replay.rules.last_write import wrong_loads
from shstk.replay.rules.outcome import OK, Outcome

_WORD: Final = 8

NEEDS = ("kernel_memory", "mappings")
APPLIES = "bytes that the kernel stored or loaded in a recorded run"
GATHERS = (gather_loads,)


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    for t in facts.transfers:
        size = t.size // 2 if t.op == "swap" else t.size
        row = {"seq": t.seq, "tid": t.tid, "mm": t.mm}
        ends = {t.addr, t.addr + max(size, 1) - 1}
        if t.op == "swap" and size != _WORD:
            yield trace.odd(row, "16 bytes", f"{t.size}", "a swap", t.addr)
        elif not all(facts.regions.at(t.mm, end, t.seq) for end in ends):
            yield trace.odd(row, "mapped memory", "none", f"{t.op} of {size} bytes", t.addr)
        else:
            yield OK
    yield from wrong_loads(facts, "read", "swap")
