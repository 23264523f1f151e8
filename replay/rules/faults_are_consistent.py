"""A shadow-stack instruction that trapped has a matching row in faults.

## What it checks
One step after each cfi row with a fault there is a row of faults with the same task, pc and cause.
For a memory fault it has the same address; for a software check it has the two words that were
compared. Every software check has a row in cfi.

## Why it matters
Rules judge what led to an exception by cfi, and how Linux handled it by faults.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
cfi.pc, fault, addr, value, operand; faults.pc, cause, tval, address, expected, found.

## Example
    sspopchk at 30.0 with fault 18, and no row of faults at 30.1

## Not a violation when
another instruction faulted: it has no row in cfi.

## How to investigate
    shstk explain-fault RUN <seq>

## Sources
docs/schema.md, cfi.fault, faults; ISA manual: xtval of a software check is 2 for a landing pad, 3
for a shadow stack.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.instructions import done, kind
from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Outcome
from shstk.schemas.causes import SOFTWARE_CHECK, STORE_ACCESS, STORE_PAGE
from shstk.schemas.seq import STEPS
from shstk.schemas.tables import TABLES

NEEDS = (
    "cfi",
    "faults.tid",
    "faults.address",
    "faults.expected",
    "faults.found",
    "cfi.value",
    "cfi.operand",
)
APPLIES = "shadow-stack instruction that trapped in a recorded run"


def _faulted(facts: Facts) -> Gather[pl.DataFrame]:
    found = []
    while piece := (yield):
        found.append(piece.brief.filter(done().not_()).select(TABLES["cfi"].names))
    return pl.concat(found)


GATHERS = (_faulted,)


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    icount = (pl.col("seq") // STEPS).alias("icount")  # a real kernel may look at the code first
    cfi = facts.gathered(_faulted).with_columns(icount)
    faults = facts.run.table("faults").with_columns(icount)
    both = cfi.join(faults, on=["icount", "tid"], how="left", suffix="_f", maintain_order="left")
    pad, check_ = kind() == "lpad", pl.col("fault") == SOFTWARE_CHECK
    loaded = pl.when(pad).then("operand").otherwise("value")
    compared = pl.when(pad).then("value").otherwise("operand")
    memory = pl.col("fault").is_in([STORE_ACCESS, STORE_PAGE])
    # tval: the address of a memory fault, the code of the check that failed, or the instruction
    tval = pl.when(memory).then("addr").when(check_).then(pl.when(pad).then(2).otherwise(3))
    same = (
        (pl.col("pc") == pl.col("pc_f"))
        & (pl.col("fault") == pl.col("cause"))
        & (~memory | (pl.col("addr") == pl.col("address")))
        & (~check_ | ((loaded == pl.col("expected")) & (compared == pl.col("found"))))
        & (pl.col("tval") == pl.coalesce(tval, pl.col("word").cast(pl.UInt64)))
    )
    for row in both.with_columns(same=same.fill_null(False)).iter_rows(named=True):
        if row["same"]:
            yield OK
            continue
        actual = "none" if row["cause"] is None else f"fault {row['cause']} at {row['pc_f']:#x}"
        expected = f"a row of faults: {row['fault']} at {row['pc']:#x}, with its words"
        yield trace.odd(row, expected, actual, f"{row['kind']} at {row['pc']:#x}", row["addr"])
    checks = faults.filter(pl.col("cause") == SOFTWARE_CHECK).join(
        cfi, on=["icount", "tid"], how="anti"
    )
    for row in checks.iter_rows(named=True):
        yield trace.odd(row, "a row of cfi before it", "none", "a software check", row["pc"])
