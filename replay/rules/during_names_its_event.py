"""A row made inside a call or step refers to it by seq.

## What it checks
during is the seq of a system call or task event of the row's task, and the row's own seq lies
within it. The only stores by the kernel outside of any event are signal frames.

## Why it matters
It links each allocation to its clone and each release to its exit.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
mappings.during, kernel_memory.during; syscalls.seq, seq_end; task_events.seq; signals.seq.

## Example
    30.2 map S2 ss during=29.1
where no event has seq 29.1.

## Not a violation when
the memory belongs to another task: ptrace, /proc/PID/mem, and robust futexes of an exiting task.
A child stores its own tid (CLONE_CHILD_SETTID) when it first runs, after the clone has returned.

## How to investigate
    shstk query RUN "SELECT * FROM mappings WHERE during = <seq>"

## Sources
docs/schema.md, during: "seq of the syscall, clone attempt or task event inside which it happened".
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.clock import with_clock
from shstk.replay.derive.rows import called
from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import Outcome, Satisfied
from shstk.schemas import seq as positions

NEEDS = (
    "syscalls",
    "task_events",
    "kernel_memory.tid",
    "kernel_memory.during",
    "signals.tid",
    "clones.child_tid",
)
APPLIES = "operation within an event of a recorded run"


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    # a thread that calls execve continues with its leader's tid
    by = pl.when(~called("execve", "execveat")).then("tid")
    told = facts.run.scan("syscalls")
    calls = told.select(during="seq", end="seq_end", by=by).collect()
    steps = facts.run.table("task_events").select(
        during="seq", end=pl.lit(None, pl.UInt64), by="tid"
    )
    events = pl.concat([calls, steps]).with_columns(known=True)
    children = facts.run.table("clones").select(during="seq", tid="child_tid", own=True)
    for name in ("mappings", "kernel_memory"):
        every = facts.run.scan(name).select("seq", "tid", "mm", "during")
        rows = every.filter(pl.col("during").is_not_null()).collect()
        held = rows.join(events, on="during", how="left", maintain_order="left")
        whose = (pl.col("by") == pl.col("tid")).fill_null(True) | pl.lit(name == "kernel_memory")
        held = held.join(children, on=["during", "tid"], how="left", maintain_order="left")
        # own: CLONE_CHILD_SETTID's store, which the child makes when it first runs
        due = pl.when(pl.col("own").is_null()).then("end")
        inside = (pl.col("seq") > pl.col("during")) & (pl.col("seq") <= due).fill_null(True)
        wrong = held.filter(~(whose & inside & pl.col("known")).fill_null(False))
        if rows.height > wrong.height:
            yield Satisfied(rows.height - wrong.height)
        for row in wrong.iter_rows(named=True):
            actual = f"during {positions.show(row['during'])}"
            yield trace.odd(row, "an event of the task, around it", actual, f"a row of {name}")
    yield from _frames(facts)


def _frames(facts: Facts) -> Iterator[Outcome]:
    """Stores outside of all events: made by a signal delivery, with no instruction of the task
    between the two."""
    every = facts.run.scan("kernel_memory").select("seq", "tid", "mm", "during", "op", "addr")
    rows = every.filter(pl.col("during").is_null())
    signals = with_clock(facts.run, facts.run.scan("signals").select("seq", "tid"))
    placed = with_clock(facts.run, rows)
    height = rows.select(pl.len()).collect().item()
    rest = placed.join(signals, on=["tid", "clock"], how="anti").collect()
    if height > rest.height:
        yield Satisfied(height - rest.height)
    for row in rest.sort("seq").iter_rows(named=True):
        what = f"{row['op']} at {row['addr']:#x}, outside of any event or signal delivery"
        yield trace.odd(row, "an event", "none", what, row["addr"])
