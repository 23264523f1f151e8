"""sspopchk retires only if the word at ssp equals the register, and then increments ssp.

## What it checks
Every sspopchk loads from ssp. If the word equals the register, it retires and increments ssp by 8.
If they differ, it raises a software check (18) and leaves ssp. If the load fails, it raises a
store/AMO access fault (7) or page fault (15) and leaves ssp.

## Why it matters
This check is the purpose of the extension: a pop must not accept a changed return address or refuse
a correct one.

## When it applies
Every run with cfi, whatever the kernel.

## Evidence columns
cfi.addr, value (the word), operand (the register), ssp_before, ssp_after, fault of kind sspopchk.

## Example
    t1 sspopchk 0x10999 operand=0x10234
retires although the word differs from the register.

## Not a violation when
it traps because the two differ: the program is wrong, and `shstk explain-fault` shows why.

## How to investigate
    shstk explain-fault RUN <seq>

## Sources
ISA manual, unprivileged CFI chapter, sspopchk: "if temp != X(src) Raise software-check exception
else ssp = ssp + (XLEN/8)"; "The ssp is incremented by sspopchk only if the load from the shadow
stack completes successfully and no software-check exception is raised."
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.instructions import done
from shstk.replay.facts import Facts
from shstk.replay.rules.manual import Laws, Relation, faults_with
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import SOFTWARE_CHECK, STORE_ACCESS, STORE_PAGE

NEEDS = ("cfi",)
APPLIES = "sspopchk"

_SAME = pl.col("value") == pl.col("operand")
_LAWS = Laws(
    ("sspopchk",),
    faults_with(STORE_ACCESS, STORE_PAGE, SOFTWARE_CHECK),
    Relation(
        "fault",
        _SAME | ~done(),
        lambda row: f"fault {SOFTWARE_CHECK}: {row['value']:#x} is not {row['operand']:#x}",
    ),
    Relation(
        "fault",
        ~_SAME | done() | (pl.col("fault") != SOFTWARE_CHECK),
        lambda row: f"no software check: both are {row['value']:#x}",
    ),
)
GATHERS = (_LAWS,)


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_LAWS)
