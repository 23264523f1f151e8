"""A system call returns with ssp unchanged.

## What it checks
ssp is saved on trap entry and restored on return: ssp_exit equals ssp_entry for every call that
returns.

## Why it matters
The caller's next return pops from wherever ssp points.

## When it applies
Every system call that returns, except those that set ssp: a successful PR_SET (P4, P6 to P8),
execve (E1), rt_sigreturn (I2), and clones of threads (A7 judges the parents).

## Evidence columns
syscalls.ssp_entry, ssp_exit.

## Example
    t1 getpid() = 1 ssp_exit=S1.top-8
with ssp at S1.top before.

## Not a violation when
a signal is delivered as the call returns (the handler begins with the token pushed), or a debugger
sets ssp by ptrace during the call.

## How to investigate
    shstk query RUN "SELECT * FROM syscalls WHERE ssp_entry != ssp_exit"

## Sources
The series' entry.S: csr ssp is swapped with thread_info's user_ssp on entry and return; seed patch,
process.c, copy_thread: "*childregs = *(current_pt_regs())".
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.rows import called
from shstk.replay.derive.ssp_path import set_by_debuggers
from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import Finding, Outcome, Satisfied, Unknown
from shstk.schemas.syscalls import name_of

NEEDS = ("syscalls", "signals.tid")
APPLIES = "system call that returned"


def check(facts: Facts) -> Iterator[Outcome]:
    calls = _judged(facts)
    known = pl.col("ssp_entry").is_not_null() & pl.col("ssp_exit").is_not_null()
    if calls.height and calls.filter(known).is_empty():
        yield Unknown("ssp at the calls is not recorded")
    moved = calls.filter(pl.col("ssp_entry") != pl.col("ssp_exit"))
    excused = _excused(facts, moved)
    wrong = moved.filter(~pl.col("seq").is_in(list(excused)))
    if count := calls.filter(known).height - wrong.height:
        yield Satisfied(count)
    for row in wrong.iter_rows(named=True):
        yield Finding(
            seq=row["seq"],
            tid=row["tid"],
            mm=row["mm"],
            addr=row["ssp_exit"],
            expected=f"ssp {row['ssp_entry']:#x} after the call, as before",
            actual=f"ssp {row['ssp_exit']:#x}",
            note=f"{name_of(row['nr'])} of task {row['tid']}",
            evidence=(row["seq"],),
        )


def _judged(facts: Facts) -> pl.DataFrame:
    """The calls that must keep ssp."""
    sets = called("prctl") & (pl.col("a0") == facts.law.first_prctl + 1) & (pl.col("ret") == 0)
    threads = [c.seq for c in facts.history.clones if c.mapped.stack]
    calls = facts.run.scan("syscalls").filter(
        (pl.col("outcome").cast(pl.String) == "returned")
        & ~sets
        & ~called("rt_sigreturn", "execve", "execveat")
        & ~pl.col("seq").is_in(threads)
    )
    return calls.select("seq", "seq_end", "tid", "mm", "nr", "ssp_entry", "ssp_exit").collect()


def _excused(facts: Facts, moved: pl.DataFrame) -> set[int]:
    """The calls during which a signal was delivered or a debugger set registers."""
    signals = facts.run.table("signals").select("seq", "tid")
    others = pl.concat([signals, set_by_debuggers(facts.run).collect()]).rename({"seq": "inner"})
    both = moved.select("seq", "seq_end", "tid").join(others, on="tid")
    return set(both.filter(pl.col("inner").is_between("seq", "seq_end"))["seq"])
