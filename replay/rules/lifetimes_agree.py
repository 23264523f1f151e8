"""The events of a task's life agree with its calls, its memory and each other.

## What it checks
A task event has the ssp that the task's previous events left. A parent reaps the status that its
child exited with; the manifest has the status of the first task. A process exits with the status of
its first exit_group or killed thread, otherwise with that of the thread that exited last.
clear_child_tid has the word that the kernel stored at its address, and the futex at that address is
woken.

## Why it matters
Order and ownership at exit are read from these events.

## When it applies
Every recorded run of a program. Handwritten runs are exempt.

## Evidence columns
task_events.ssp, status, addr, value; ssp_path; kernel_memory; manifest.exit_status.

## Example
    exit_begin 0, and reaped 256

## Not a violation when
the event is created, first_user or exec_done: these set ssp (A7, E1).

## How to investigate
    shstk query RUN "SELECT * FROM task_events WHERE tid = <tid> ORDER BY seq"

## Sources
docs/schema.md, task_events. kernel/exit.c: do_group_exit, synchronize_group_exit, and
wait_task_zombie, which takes signal->group_exit_code; seen on 7.2.13 (a leader's exit(0), another
thread's exit_group(7): 1792).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final

import polars as pl

from shstk.replay.derive.history import Exited
from shstk.replay.derive.lives import with_life
from shstk.replay.derive.rows import Event
from shstk.replay.facts import STATE, Facts, gather_stretches
from shstk.replay.rules import trace, words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Satisfied

_SETTERS: Final = ("created", "first_user", "exec_done")

NEEDS = ("cfi", *STATE, "task_events", "task_events.addr", "kernel_memory")
ALSO = ("task_events.ssp", "syscalls.ssp_entry")
APPLIES = "event of a task's life in a recorded run"
GATHERS = (gather_stretches,)


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    yield from _ssp(facts)
    ends = _Ends(facts)
    cleared: dict[int | None, Event] = {}
    for event in facts.events:
        row = {"seq": event.seq, "tid": event.tid, "mm": event.mm}
        what = f"{event.kind} of task {event.tid}"
        if event.kind == "created":
            cleared.pop(event.tid, None)
        elif event.kind == "reaped" and (last := ends.of(event.tid, event.seq)):
            if event.status == last.status:
                yield OK
            else:
                expected, actual = f"status {last.status}", f"status {event.status}"
                yield trace.odd(row, expected, actual, what, evidence=(last.seq,))
        elif event.kind == "clear_child_tid":
            cleared[event.tid] = event
            yield _stored(facts, event) or OK
        elif event.kind == "futex_wake":
            stored = cleared.pop(event.tid, None)
            if stored and stored.addr != event.addr:
                expected, actual = f"{stored.addr:#x}", words.address(event.addr)
                yield trace.odd(row, expected, actual, what, event.addr, (stored.seq,))
    yield from _ending(facts, ends.of(facts.run.manifest.first_tid, 2**64))


class _Ends:
    """The exit whose status is a whole process's."""

    def __init__(self, facts: Facts) -> None:
        self._group_exits = facts.calls("exit_group")
        self._exits: dict[int, list[Exited]] = {}  # by pid; each list by seq
        for exited in facts.history.exits:
            self._exits.setdefault(exited.task.pid, []).append(exited)
        # by pid: the beginnings and ends of the processes that had it (not all are reaped), and the
        # execs, which end threads too
        self._bounds: dict[int | None, list[int]] = {}
        reaped = [(e.seq, e.tid) for e in facts.events if e.kind == "reaped"]
        execs = [(e.seq, e.heir.tid) for e in facts.history.execs if e.succeeded]
        born = [(t.born, t.pid) for t in facts.history.tasks if t.tid == t.pid]
        for seq, pid in sorted([*reaped, *execs, *born]):
            self._bounds.setdefault(pid, []).append(seq)

    def of(self, pid: int | None, seq: int) -> Event | None:
        """Of the process that had this pid before seq; only exits after its last exec count, which
        ends threads too."""
        if pid is None:
            return None
        bounds, exits = self._bounds.get(pid, []), self._exits.get(pid, [])
        passed = bisect_left(bounds, seq)
        low = bisect_right(exits, bounds[passed - 1], key=_seq) if passed else 0
        exits = exits[low : bisect_left(exits, seq, key=_seq)]
        ends = (x.event for x in exits if (x.event.status or 0) & 0x7F or self._ends_all(x))
        return next(ends, exits[-1].event if exits else None)

    def _ends_all(self, exited: Exited) -> bool:
        task = exited.task
        return bool(self._group_exits.of(task.tid, task.born, exited.seq))


def _seq(exited: Exited) -> int:
    return exited.seq


def _ending(facts: Facts, last: Event | None) -> Iterator[Outcome]:
    """Compare the first task's last exit with the run's; one before a thread's exec is not last."""
    due = facts.run.manifest.exit_status
    if last and facts.run.manifest.complete and last.status != due:
        row = {"seq": last.seq, "tid": last.tid, "mm": last.mm}
        yield trace.odd(row, f"status {due}", f"status {last.status}", "the first task's exit")


def _stored(facts: Facts, event: Event) -> Finding | None:
    """Check that the row just before clear_child_tid stored its word."""
    before = facts.transfers.of(event.tid, event.seq - 2, event.seq)
    word = (event.value or 0).to_bytes(4, "little")
    if any(t.addr == event.addr and t.bytes == word for t in before) or not before:
        return None  # nothing is stored at a bad address
    row = {"seq": event.seq, "tid": event.tid, "mm": event.mm}
    actual = f"{before[-1].bytes.hex()} at {before[-1].addr:#x}"
    expected = f"{word.hex()} at {words.address(event.addr)}"
    return trace.odd(row, expected, actual, "clear_child_tid", event.addr)


def _ssp(facts: Facts) -> Iterator[Outcome]:
    """Check that each event has the ssp that the last event of its task left."""
    kinds = pl.col("kind").cast(pl.String)
    steps = facts.run.table("task_events").filter(~kinds.is_in(_SETTERS))
    # a thread that execs takes its leader's tid: the leader's rows meanwhile are its own
    taken = [
        (step.heir.tid, step.begin.seq, step.seq)
        for step in facts.history.execs
        if step.begin and step.task is not step.heir
    ]
    schema = {"tid": pl.UInt32, "begun": pl.UInt64, "over": pl.UInt64}
    spans = pl.DataFrame(taken, schema=schema, orient="row").sort("begun")
    held = steps.join_asof(
        spans, left_on="seq", right_on="begun", by="tid", check_sortedness=False, coalesce=False
    )
    steps = held.filter((pl.col("seq") > pl.col("over")).fill_null(True)).drop("begun", "over")
    calls = facts.run.scan("syscalls").select("seq", "ssp_entry").collect()
    during = pl.coalesce("ssp_entry", "ssp_after")  # within a call: as at its entry
    path = facts.stretches[1].join(calls, on="seq", how="left")
    path = path.select("seq", "tid", at="last", ssp_due=during).sort("seq")
    recorded = (
        with_life(facts.run, steps.lazy())
        .join_asof(
            with_life(facts.run, path.lazy()),
            on="seq",
            by=["tid", "life"],
            check_sortedness=False,
        )
        .collect()
    )
    wrong = recorded.filter(pl.col("ssp") != pl.col("ssp_due"))
    if recorded.height > wrong.height:
        yield Satisfied(recorded.height - wrong.height)
    for row in wrong.iter_rows(named=True):
        expected, actual = f"ssp {row['ssp_due']:#x}", f"ssp {row['ssp']:#x}"
        what = f"{row['kind']} of task {row['tid']}"
        yield trace.odd(row, expected, actual, what, row["ssp"], (row["at"],))
