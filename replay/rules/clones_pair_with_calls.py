"""A clone attempt and its system call agree.

## What it checks
Each row of clones has the seq of a clone or clone3 call by the same task, with the same end and
return value. The arguments of clone match the row's columns. The child is created by the caller,
during the call.

## Why it matters
These arguments determine which shadow stack a thread should have.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
clones.flags, stack, tls, parent_tid, child_tid_addr, exit_signal, child_tid, ret; syscalls.a0..a4.

## Example
    a call of clone(CLONE_VM) and a row of clones with CLONE_VFORK

## Not a violation when
the run ended during the attempt. The arguments of clone3 are in memory and are not compared.

## How to investigate
    shstk query RUN "SELECT * FROM clones JOIN syscalls USING (seq)"

## Sources
docs/schema.md, clones: "one attempt to make a task, failed ones too; seq is its syscall's"; man 2
clone for the registers on riscv: flags, stack, parent_tid, tls, child_tid.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from shstk.replay.derive.rows import called
from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Outcome
from shstk.schemas import seq as positions
from shstk.schemas.syscalls import name_of
from shstk.schemas.uapi import CLONE_PARENT, CSIGNAL

_REGISTERS: Final = ("a1", "a2", "a3", "a4")

NEEDS = (
    "syscalls",
    "clones",
    "task_events",
    "task_events.value",
    "syscalls.mm",
    "syscalls.a0",
    "syscalls.a1",
    "syscalls.a2",
    "syscalls.a3",
    "syscalls.a4",
)
APPLIES = "attempt to make a task of a recorded run"


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    kinds = pl.col("kind").cast(pl.String)
    born = facts.run.table("task_events").filter(kinds == "created")
    created: dict[tuple[int, int], list[int]] = {}  # tids are used again
    for tid, parent, seq in born.sort("seq").select("tid", "value", "seq").iter_rows():
        created.setdefault((tid, parent), []).append(seq)
    calls = {row["seq"]: row for row in _calls(facts).iter_rows(named=True)}
    attempts = facts.run.table("clones")
    for row in attempts.iter_rows(named=True):
        call = calls.pop(row["seq"], None)
        yield trace.odd(row, "a call", "none", "an attempt") if call is None else _hold(row, call)
        child = row["child_tid"]
        if child is not None and not row["flags"] & CLONE_PARENT:
            seqs = created.get((child, row["tid"]), [])
            at = next(iter(seqs[bisect_left(seqs, row["seq"]) :]), None)
            if at is None or at > (row["seq_end"] or at):
                actual = "none" if at is None else positions.show(at)
                yield trace.odd(row, f"task {child} created within it", actual, "its child")
    for call in calls.values():
        if call["ret"] is not None and call["ret"] > 0:
            yield trace.odd(call, "an attempt", "none", f"{call['name']} that made a task")


def _calls(facts: Facts) -> pl.DataFrame:
    return facts.run.scan("syscalls").filter(called("clone", "clone3")).collect()


def _hold(row: dict[str, Any], call: dict[str, Any]) -> Outcome:
    """Compare the two rows of one attempt."""
    due_values = {name: call[name] for name in ("tid", "mm", "seq_end", "ret")}
    if name_of(call["nr"]) == "clone":
        registers = zip(("stack", "parent_tid", "tls", "child_tid_addr"), _REGISTERS, strict=True)
        due_values |= {name: call[register] for name, register in registers}
        due_values |= {"flags": call["a0"] & ~CSIGNAL, "exit_signal": call["a0"] & CSIGNAL}
    if row["ret"] is not None:
        due_values["child_tid"] = row["ret"] if row["ret"] > 0 else None
    for name, due in due_values.items():
        if row[name] != due:
            expected, actual = f"{name} {due}", f"{name} {row[name]}"
            return trace.odd(row, expected, actual, "clones and syscalls differ")
    return OK
