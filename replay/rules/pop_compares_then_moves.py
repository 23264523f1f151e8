"""sspopchk goes on only if the word at ssp is the register, and then moves ssp up.

## What it checks
Every sspopchk loads from ssp. Where the word is the register it retires and moves ssp up by 8;
where it differs it raises a software check (18) and leaves ssp. Otherwise it traps with a store/AMO
access fault (7) or page fault (15), and leaves ssp too.

## Why it matters
It is the check that the whole extension is for: a pop that lets a changed return address pass, or
stops a right one.

## When it applies
Every run that recorded cfi, whatever the kernel.

## Evidence columns
cfi.addr, value (the word), operand (the register), ssp_before, ssp_after, fault of kind sspopchk.

## Example
    t1 sspopchk 0x10999 operand=0x10234
retires, although the word is not the register.

## Not a violation when
it traps because the two differ: that is the program's fault, and `shstk explain-fault` tells whose.

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
from shstk.replay.rules.manual import Relation, faults_with, judge
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import SOFTWARE_CHECK, STORE_ACCESS, STORE_PAGE

NEEDS = ("cfi",)
APPLIES = "sspopchk"


def check(facts: Facts) -> Iterator[Outcome]:
    same = pl.col("value") == pl.col("operand")
    yield from judge(
        facts,
        ("sspopchk",),
        faults_with(STORE_ACCESS, STORE_PAGE, SOFTWARE_CHECK),
        Relation(
            "fault",
            same | ~done(),
            lambda row: f"fault {SOFTWARE_CHECK}: {row['value']:#x} is not {row['operand']:#x}",
        ),
        Relation(
            "fault",
            ~same | done() | (pl.col("fault") != SOFTWARE_CHECK),
            lambda row: f"no software check: both are {row['value']:#x}",
        ),
    )
