"""All events are in one total order.

## What it checks
In each table seq increases from row to row. Instructions are at icount.0, the kernel's steps at
icount.1, .2 and so on, each number once and without gaps. No event comes after the last instruction
of the run.

## Why it matters
Every other rule depends on the order of events. This one detects a row that was moved, duplicated
or removed.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
seq of every table; seq_end of syscalls and mms; manifest.icount.

## Example
    1042.1, 1042.2, 1042.4

## Not a violation when
the missing number is that of a signal that could not be delivered.

## How to investigate
    shstk log RUN --from <seq>

## Sources
docs/schema.md, seq: icount * 2**20 + n; n counts the kernel's steps at that icount from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from shstk.replay.facts import Facts, gather_trail
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import Outcome, Satisfied
from shstk.schemas import seq as positions
from shstk.schemas.seq import STEPS
from shstk.schemas.tables import DERIVABLE, TABLES

# Tables whose rows may share the seq of another row: a clone its call's, an input its reader's.
# A call that slept has its seq at an earlier icount; these rows then have a step of their own.
_SHARED: Final = ("clones", "inputs", "tree", "typed")

NEEDS = ("syscalls",)
APPLIES = "event of a recorded run"
GATHERS = (gather_trail,)


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    steps, shared, count = [], [], 0
    for name, table in TABLES.items():
        if name in DERIVABLE:
            trail = facts.trail(name)
            count += trail.count - trail.odd.height
            yield from _misplaced(name, trail.odd, of_program=True)
            continue
        rows = facts.run.scan(name)
        last = pl.col("seq").shift()
        of_program = table.trace is not None
        wrong = rows.filter(
            (pl.col("seq") < last if name in _SHARED else pl.col("seq") <= last)
            | ((pl.col("seq") % STEPS == 0) != of_program)
            | (pl.col("seq") // STEPS > facts.run.manifest.icount)
        )
        height, odd = pl.collect_all([rows.select(pl.len()), wrong.select("seq", "tid", "mm")])
        count += height.item() - odd.height
        yield from _misplaced(name, odd, of_program)
        if name in _SHARED:
            shared += [rows.select("seq", "tid", "mm", table=pl.lit(name)).collect()]
        elif not of_program:
            steps += [rows.select("seq", "tid", "mm", table=pl.lit(name)).collect()]
            if "seq_end" in TABLES[name].names:
                ends = facts.run.table(name).select(pl.col("seq_end").alias("seq"), "tid", "mm")
                if name == "mms":  # a handwritten run ends one at its last user's own step
                    ends = ends.join(facts.run.table("task_events"), on="seq", how="anti")
                steps += [ends.drop_nulls("seq").with_columns(table=pl.lit(name))]
    yield Satisfied(count)
    own = pl.concat(shared).unique("seq", keep="first", maintain_order=True)
    taken = pl.concat(steps)
    steps_of_all = pl.concat([taken, own.join(taken, on="seq", how="anti")])
    yield from _numbers(facts, steps_of_all.sort("seq"))


def _misplaced(name: str, odd: pl.DataFrame, of_program: bool) -> Iterator[Outcome]:
    where = "an icount.0" if of_program else "an icount.n with n >= 1"
    expected = f"{where}, after the row before, within the run"
    for row in odd.iter_rows(named=True):
        yield trace.odd(row, expected, positions.show(row["seq"]), f"a row of {name}")


def _numbers(facts: Facts, steps: pl.DataFrame) -> Iterator[Outcome]:
    """Check that the kernel's steps at each icount are numbered 1, 2, 3 and so on."""
    place = pl.col("seq") // STEPS
    before = pl.col("seq").shift().over(place).fill_null(place * STEPS)
    wrong = steps.with_columns(due=before + 1).filter(pl.col("seq") != pl.col("due"))
    unmade = {s.seq // STEPS for s in facts.signals if s.kind == "fatal"}
    for row in wrong.iter_rows(named=True):
        if row["seq"] == row["due"] + 1 and row["seq"] // STEPS in unmade:
            continue
        due, seq = (positions.show(row[name]) for name in ("due", "seq"))
        yield trace.odd(row, due, seq, f"the kernel's next step, in {row['table']}")
