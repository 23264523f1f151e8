"""ssamoswap returns the word that was there, and traps if its address is misaligned.

## What it checks
The word that ssamoswap returns is the one that the last sspush, ssamoswap or kernel write stored
there, or 0 if there was none since the area was mapped. ssp does not change. An address that is not
a multiple of 4 raises an access fault (7). The only other exceptions are an illegal instruction (2)
and a page fault (15).

## Why it matters
It is the only way to hand a shadow stack from one thread to another. If a token were taken twice,
two threads would use one stack.

## When it applies
Every run with cfi, whatever the kernel. The words of ssamoswap.w are not judged because it changes
half a word. Z9, which knows the instruction, checks the 8-byte alignment of ssamoswap.d.

## Evidence columns
cfi.addr, value (the new word), operand (the old), fault of kind ssamoswap; kernel_memory.

## Example
    t1 sspush 0x10234
    t1 ssamoswap S1.top-8 0 0x10999

## Not a violation when
another task or the kernel wrote the word in between: that is then the last write.

## How to investigate
    shstk query RUN "SELECT * FROM cfi WHERE addr = <address> ORDER BY seq"

## Sources
ISA manual, unprivileged CFI chapter, ssamoswap: "X(rd) = mem[X(rs1)]; mem[X(rs1)] = X(rs2)"; "Just
as for AMOs in the A extension, ssamoswap.w/d requires that the address held in rs1 be naturally
aligned."
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.facts import Facts
from shstk.replay.rules.last_write import wrong_loads
from shstk.replay.rules.manual import Laws, Relation, faults_with
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import ILLEGAL_INSTRUCTION, STORE_ACCESS, STORE_PAGE

NEEDS = ("cfi", "mappings", "kernel_memory")
APPLIES = "ssamoswap"

_FAULTED = pl.col("fault").is_in([STORE_ACCESS, ILLEGAL_INSTRUCTION]).fill_null(False)
_WHOLE = pl.col("addr") % 4 == 0
_LAWS = Laws(
    ("ssamoswap",),
    faults_with(ILLEGAL_INSTRUCTION, STORE_ACCESS, STORE_PAGE),
    Relation("fault", _WHOLE | _FAULTED, lambda row: f"fault {STORE_ACCESS}"),
)
GATHERS = (_LAWS,)


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_LAWS)
    yield from wrong_loads(facts, "ssamoswap")
