"""A landing pad traps only if its label or alignment is wrong, or if it is not an lpad.

## What it checks
An lpad whose label is 0 or x7[31:12], at an address that is a multiple of 4, does not trap. The
only exception is a software check (18), which must be raised where there is no lpad. An lpad never
moves ssp.

## Why it matters
A pad that traps without cause kills a correct program; one that accepts a wrong label is useless.

## When it applies
Every run with cfi and landing pads enabled. Z10 checks that an indirect jump meets a pad. An lpad
that is reached in another way does nothing, whatever its label.

## Evidence columns
cfi.pc, value (the label; 0xffffffff: no lpad there), operand (x7[31:12]), fault of kind lpad.

## Example
    t1 lpad 5 5 fault=18

## Not a violation when
the label differs: the jump went to a function of another signature and must trap.

## How to investigate
    shstk explain-fault RUN <seq>

## Sources
ISA manual, unprivileged CFI chapter, lpad: "if pc[1:0] != 0 raise software-check exception ... else
if (inst.LPL != x7[31:12] && inst.LPL != 0) raise software-check exception".
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.instructions import NO_PAD, done
from shstk.replay.facts import Facts
from shstk.replay.rules.manual import Laws, Relation, faults_with
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import SOFTWARE_CHECK

NEEDS = ("cfi",)
APPLIES = "landing pad"

_LABEL, _NONE = pl.col("value"), pl.col("value") == NO_PAD
_FITS = ((_LABEL == 0) | (pl.col("operand") == _LABEL)) & (pl.col("pc") % 4 == 0) & ~_NONE
_LAWS = Laws(
    ("lpad",),
    faults_with(SOFTWARE_CHECK),
    Relation("fault", ~_NONE | ~done(), lambda row: f"fault {SOFTWARE_CHECK}: no pad is there"),
    Relation("fault", ~_FITS | done(), lambda row: "no fault: the label fits"),
)
GATHERS = (_LAWS,)


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_LAWS)
