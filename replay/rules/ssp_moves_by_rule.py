"""ssp moves only as instructions, signals and the kernel's handoffs move it.

## What it checks
Within an event: sspush moves ssp down by 8 and stores there, sspopchk loads there and moves it up
by 8, a write of csr ssp sets it, all others leave it; a signal's token moves it down by 8,
sigreturn to the token; what traps does not move it. Between events of one task: ssp is what the
event before left.

## Why it matters
A return address is checked against wherever ssp points. An ssp that moved by itself, or that a
trap, a switch of tasks or the kernel failed to keep, checks against the wrong word.

## When it applies
Every run that recorded cfi. Between events it rests on first_user, exec_done, system calls and
signals as well.

## Evidence columns
cfi.kind, addr, value, ssp_before, ssp_after, fault; signals.ssp_before, ssp_after, token_addr,
token_value; syscalls.ssp_entry, ssp_exit; task_events.ssp.

## Example
    t1 sspush 0x10234             # leaves ssp at S1.top-8
    t1 sspush 0x10300 ssp_before=S1.top

## Not a violation when
the program writes csr ssp (longjmp, green threads, ucontext), or a debugger sets it by ptrace; and
what a system call does to ssp is ST2's, P6's and E1's.

## How to investigate
    shstk query RUN "SELECT * FROM ssp_path WHERE tid = <tid> ORDER BY seq"

## Sources
ISA manual, unprivileged CFI chapter: a push stores at ssp-8 and only then moves ssp, a pop moves it
by 8 only if the words agree. Documentation/arch/riscv/zicfiss.rst: "The sspush x1/x5 instruction
pushes (stores) x1/x5 to shadow stack."
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from replay.derive.pieces import pieces
from replay.derive.ssp_path import ssp_path
from replay.facts import STATE, Facts
from replay.rules.outcome import Finding, Outcome, Satisfied

if TYPE_CHECKING:
    import polars as pl

NEEDS = ("cfi", *STATE, "signals")
APPLIES = "event that tells a task's ssp"


def check(facts: Facts) -> Iterator[Outcome]:
    import polars as pl

    count, gaps = _gaps(facts)
    wrong: dict[int, dict[str, Any]] = {}
    for row in pl.concat([_instructions(facts), _signals(facts)]).iter_rows(named=True):
        wrong.setdefault(row["seq"], row)
    told = _others(facts) | wrong.keys()
    for row in gaps.iter_rows(named=True):
        if row["last"] not in told and row["seq"] not in told:
            wrong[row["seq"]] = row
    if right := count - len(wrong):
        yield Satisfied(right)
    for row in wrong.values():
        yield Finding(
            seq=row["seq"],
            tid=row["tid"],
            mm=row["mm"],
            addr=row["is"],
            expected=f"{row['what']} {row['due']:#x}",
            actual=f"{row['is']:#x}",
            note=f"{row['cause']} of task {row['tid']}",
            evidence=(row["seq"],) if row["last"] is None else (row["last"], row["seq"]),
        )


def _wrong(rows: pl.LazyFrame, what: str) -> pl.DataFrame:
    """Rows whose `is` differs from `due`, both known."""
    import polars as pl

    return (
        rows.filter(pl.col("is") != pl.col("due"))
        .select("seq", "tid", "mm", "cause", pl.lit(what).alias("what"), "due", "is", "last")
        .collect()
    )


def _instructions(facts: Facts) -> pl.DataFrame:
    """What an instruction does to ssp, and where it stores or loads."""
    import polars as pl

    kind, before = pl.col("kind").cast(pl.String), pl.col("ssp_before")
    nothing = pl.lit(None, pl.UInt64)
    done = pl.col("fault").is_null()
    cfi = facts.run.scan("cfi").with_columns(cause=kind, last=nothing)
    moved = (
        pl.when(done & (kind == "sspush"))
        .then(before - 8)
        .when(done & (kind == "sspopchk"))
        .then(before + 8)
        .when(done & (kind == "ssp_write"))
        .then(pl.col("value") // 8 * 8)  # bits 2:0 are read-only zero
        .otherwise(before)
    )
    place = pl.when(kind == "sspush").then(before - 8).when(kind == "sspopchk").then(before)
    after = cfi.with_columns(pl.col("ssp_after").alias("is"), due=moved)
    address = cfi.with_columns(pl.col("addr").alias("is"), due=place)
    return pl.concat([_wrong(after, "ssp afterwards"), _wrong(address, "at")])


def _signals(facts: Facts) -> pl.DataFrame:
    """Delivery pushes a token, if any; sigreturn goes to a token that holds, or nowhere."""
    import polars as pl

    kind, before = pl.col("kind").cast(pl.String), pl.col("ssp_before")
    token, word = pl.col("token_addr"), pl.col("token_value")
    after = pl.col("ssp_after")
    untold = token.is_null() & ((after == before - 8) | (kind == "sigreturn"))
    back = (kind == "sigreturn") & (word.is_null() | ((word == token + 8) & (after == word)))
    rows = facts.run.scan("signals").with_columns(cause=kind, last=pl.lit(None, pl.UInt64))
    due = (
        pl.when((kind == "delivery") & token.is_not_null())
        .then(before - 8)
        .when(back | untold)
        .then(after)
        .otherwise(before)
    )
    return _wrong(rows.with_columns(after.alias("is"), due=due), "ssp afterwards")


def _others(facts: Facts) -> set[int]:
    """Events after which ssp is wrong by another rule, and told there: handoffs, calls, execs."""
    import polars as pl

    told = set()
    for clone in facts.history.clones:
        first = clone.child.first_user if clone.child else None
        stack = clone.mapped.stack
        if first and first.ssp != (stack.top if stack else clone.parent_ssp):
            told.add(first.seq)
    for call in facts.history.prctls:
        stack = call.mapped.stack
        if call.row.ssp_exit != (stack.top if stack else call.row.ssp_entry):
            told.add(call.seq)
    told |= {e.seq for e in facts.history.execs if e.succeeded and e.done.ssp}
    sets = {call.seq for call in facts.history.prctls}
    calls = facts.run.scan("syscalls").filter(pl.col("ssp_entry") != pl.col("ssp_exit"))
    return told | (set(calls.select("seq").collect()["seq"]) - sets)


def _gaps(facts: Facts) -> tuple[int, pl.DataFrame]:
    """Between two events of a task: what one left is what the next finds. And how many events."""
    import polars as pl

    count, found, before = 0, [], ssp_path(facts.run).head(0).collect()
    for piece in pieces(facts.run):
        events = ssp_path(facts.run, piece).collect()
        count += events.height
        path = pl.concat([before, events])
        chained = path.lazy().with_columns(
            pl.col("ssp_before").alias("is"),
            due=pl.col("ssp_after").shift().over("tid"),
            last=pl.col("seq").shift().over("tid"),
        )
        found.append(_wrong(piece.span(chained), "ssp still"))
        before = path.unique("tid", keep="last", maintain_order=True)
    return count, pl.concat(found)
