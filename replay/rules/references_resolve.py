"""Everything that a row refers to by number is in the run.

## What it checks
Files, modules, address spaces and calls that rows refer to by number exist, and each number is
unique: mappings.input, modules.input, code.module, signals.sigreturn_seq, mms.from_mm, and mm in
every table. Address spaces begin before they are used and end when their last user drops them.

## Why it matters
A row that refers to something missing cannot be interpreted.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
inputs.input, size, first_seq; modules.module; mms.mm, seq, seq_end, from_mm; mm of every table.

## Example
    map S1 input=9
in a run with inputs 1 and 2.

## Not a violation when
the run was cut short: address spaces still in use have no end. A fork failed late: its copy had no
user.

## How to investigate
    shstk query RUN "SELECT * FROM inputs"

## Sources
docs/schema.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from shstk.replay.facts import Facts, gather_trail
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Outcome, Satisfied
from shstk.schemas import seq as positions
from shstk.schemas.tables import TABLES

# Tables whose rows may precede the address space that they refer to: a task's first event, and the
# files that an exec reads.
_BEFORE: Final = ("task_events", "inputs", "tree", "typed")
# a column, and the table and column that it refers to
_NAMES: Final = (
    ("mappings", "input", "inputs", "input"),
    ("modules", "input", "inputs", "input"),
    ("code", "module", "modules", "module"),
    ("signals", "sigreturn_seq", "syscalls", "seq"),
    ("mms", "from_mm", "mms", "mm"),
)

NEEDS = ("task_events", "mms.mm", "task_events.value", "inputs")
ALSO = ("mms.seq_end",)
APPLIES = "reference in a recorded run"
GATHERS = (gather_trail,)


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    for table, column, other, key in _NAMES:
        yield from _named(facts, table, column, other, key)
    for table, key in (("inputs", "input"), ("modules", "module"), ("mms", "mm")):
        rows = facts.run.table(table)
        for row in rows.filter(rows[key].is_duplicated()).iter_rows(named=True):
            yield trace.odd(row, f"one {key} {row[key]}", "several", f"a row of {table}")
    yield from _files(facts)
    yield from _spaces(facts)


def _named(facts: Facts, table: str, column: str, other: str, key: str) -> Iterator[Outcome]:
    rows = facts.run.table(table).filter(pl.col(column).is_not_null())
    there = facts.run.table(other).select(pl.col(key).alias(column))
    wrong = rows.join(there, on=column, how="anti")
    if rows.height > wrong.height:
        yield Satisfied(rows.height - wrong.height)
    for row in wrong.sort("seq").iter_rows(named=True):
        expected = f"a row of {other} with {key} {row[column]}"
        yield trace.odd(row, expected, "none", f"{table}.{column}")


def _files(facts: Facts) -> Iterator[Outcome]:
    """Check that each file's recorded size is that of its bytes."""
    for row in facts.run.table("inputs").iter_rows(named=True):
        data = facts.run.held(row["sha256"])
        if data is None:
            continue
        size = len(data)
        if size != row["size"] or row["first_seq"] != row["seq"]:
            actual = f"{row['size']} bytes, first seen at {positions.show(row['first_seq'])}"
            expected = f"{size} bytes, first seen at {positions.show(row['seq'])}"
            yield trace.odd(row, expected, actual, row["guest_path"])


def _spaces(facts: Facts) -> Iterator[Outcome]:
    """Check that every row's address space exists at the row's seq."""
    mms = facts.run.table("mms")
    drops = facts.run.table("task_events").filter(
        (pl.col("kind").cast(pl.String) == "mm_dropped") & (pl.col("value") == 0)
    )
    last = dict(drops.select("mm", "seq").iter_rows())
    had = set(facts.run.table("task_events")["mm"].drop_nulls())
    for row in mms.filter(pl.col("seq_end").is_not_null()).iter_rows(named=True):
        due = last.get(row["mm"])
        if row["mm"] not in had:
            continue  # a fork failed late: no task ever had its copy
        if due is None or row["seq_end"] - due not in (0, 1):  # 0: in a handwritten run
            actual = f"an end at {positions.show(row['seq_end'])}"
            yield trace.odd(row, f"{positions.show(due)}: its last user's", actual, "a row of mms")
    lives = mms.select("mm", begin=pl.col("seq"), end=pl.col("seq_end"))
    for name in TABLES:
        if name in _BEFORE:
            continue
        used = facts.trail(name).spaces.join(lives, on="mm", how="left").sort("mm")
        for row in used.iter_rows(named=True):
            begin, end = row["begin"], row["end"]
            if begin is None or row["seq"] < begin or (end is not None and row["last"] > end):
                span = f"{positions.show(row['seq'])} to {positions.show(row['last'])}"
                lived = f"mm {row['mm']} from {positions.show(begin)} to {positions.show(end)}"
                yield trace.odd(row, lived, f"rows from {span}", f"{name} of mm {row['mm']}")
            else:
                yield OK
