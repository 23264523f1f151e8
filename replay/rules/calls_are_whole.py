"""A system call begins, ends and returns once.

## What it checks
A call ends after it begins, and a task makes no call before its last one has ended. A call that
did not return has no return value. The name matches the number, and the instruction at pc is an
ecall.

## Why it matters
All requests to the kernel and all results are read from these rows.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
syscalls.seq, seq_end, nr, name, pc, ret, outcome; code.bytes.

## Example
    30 t1 getpid() = 1 outcome=killed

## Not a violation when
the loader made the call for the program: such a call has no ecall.

## How to investigate
    shstk log RUN --tid <tid> --calls

## Sources
docs/schema.md, syscalls; ISA manual: ecall is the word 0x00000073.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import Outcome, Satisfied
from shstk.schemas.syscalls import BY_NUMBER
from shstk.schemas.tables import TABLES
from shstk.schemas.units import show

_NAMES: Final = {number: call.name for number, call in BY_NUMBER.items()}
_ANSWERED: Final = ("returned", "loader")
_EXPECTED: Final = {
    "seq_end": "an end after its beginning",
    "seq": "a beginning after the end of the task's last call",
    "outcome": "run_ended if and only if it has no end",
    "ret": "no return value: it did not return",
    "name": "{due}, the name of {nr}",
    "pc": "the address of an ecall",
}

NEEDS = ("syscalls",)
ALSO = ("code", "syscalls.pc")
APPLIES = "system call of a recorded run"


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    outcome = pl.col("outcome").cast(pl.String)
    name = pl.col("nr").replace_strict(_NAMES, default=None, return_dtype=pl.String)
    last = pl.col("seq_end").shift().over("tid", order_by="seq")
    first = pl.int_range(pl.len()).over("tid", order_by="seq") == 0
    laws = {
        "seq_end": (pl.col("seq_end") > pl.col("seq")) | pl.col("seq_end").is_null(),
        "seq": first | (pl.col("seq") >= last).fill_null(False),
        "outcome": (outcome == "run_ended") == pl.col("seq_end").is_null(),
        "ret": outcome.is_in(_ANSWERED) | pl.col("ret").is_null(),
        "name": pl.col("name").is_null() | (pl.col("name") == name),
        "pc": pl.col("pc").is_in(sorted(facts.code.ecalls)) | (outcome == "loader"),
    }
    if not facts.run.table("code").height or facts.missing("syscalls.pc"):
        del laws["pc"]
    rows = facts.run.scan("syscalls").with_columns(
        pl.struct([(~law.fill_null(False)).alias(key) for key, law in laws.items()]).alias(
            "broken"
        ),
        due=name,
    )
    broken = pl.any_horizontal([pl.col("broken").struct.field(key) for key in laws])
    wrong, height = rows.filter(broken).collect(), facts.run.rows("syscalls")
    if height > wrong.height:
        yield Satisfied(height - wrong.height)
    for row in wrong.iter_rows(named=True):
        column = next(key for key, broken in row["broken"].items() if broken)
        shown = show(TABLES["syscalls"].column(column).unit, row[column])
        note = f"{row['name'] or row['nr']} of task {row['tid']}"
        yield trace.odd(row, _EXPECTED[column].format(**row), f"{column} {shown}", note)
