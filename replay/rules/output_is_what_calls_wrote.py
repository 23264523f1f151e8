"""The guest's output is what its calls wrote.

## What it checks
Each row of output is within a writing call of its task, and the rows within a call have as many
bytes as the call returned.

## Why it matters
Output is what a user compares first.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
output.seq, tid, bytes; syscalls.nr, ret, seq_end.

## Example
    write(1, BUFFER, 5) = 5
with output of 4 bytes within it.

## Not a violation when
the call has no return value because the run ended within it.

## How to investigate
    shstk query RUN "SELECT * FROM output ORDER BY seq"

## Sources
docs/schema.md, output: "what the guest wrote to standard output and standard error".
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Outcome
from shstk.replay.run import Run

NEEDS = ("syscalls", "output.tid")
APPLIES = "output of a recorded run"


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    told = facts.run.scan("syscalls")
    calls = told.select("tid", "name", "ret", "seq_end", call="seq", at="seq").collect()
    rows = _sizes(facts.run).join_asof(
        calls, left_on="seq", right_on="at", by="tid", check_sortedness=False
    )
    inside = pl.col("seq_end").is_null() | (pl.col("seq") <= pl.col("seq_end"))
    stray = rows.filter(pl.col("call").is_null() | ~inside)
    for row in stray.iter_rows(named=True):
        yield trace.odd(row, "a call around it", "none", f"{row['size']} bytes of output")
    totals = (
        rows.filter(inside & pl.col("ret").is_not_null())
        .group_by("call", maintain_order=True)
        .agg(
            pl.col("seq", "tid", "mm", "name", "ret").first(),
            wrote=pl.col("size").sum().cast(pl.Int64),
        )
    )
    for row in totals.iter_rows(named=True):
        if row["wrote"] == row["ret"]:
            yield OK
            continue
        expected = f"{row['ret']} bytes, as {row['name']} returned"
        yield trace.odd(row, expected, f"{row['wrote']}", "output", evidence=(row["call"],))


def _sizes(run: Run) -> pl.DataFrame:
    """The rows of output, each with the size of its bytes in their place."""
    parts = [
        pl.DataFrame(
            schema={"seq": pl.UInt64, "tid": pl.UInt32, "mm": pl.UInt32, "size": pl.UInt32}
        )
    ]
    for batch in run.batches("output"):
        part = pl.from_arrow(batch)
        assert isinstance(part, pl.DataFrame)
        parts.append(part.select("seq", "tid", "mm", size=pl.col("bytes").bin.size()))
    return pl.concat(parts)
