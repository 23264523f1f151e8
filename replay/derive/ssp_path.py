"""Every task's ssp over time: all events with an ssp, in one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.rows import called
from shstk.schemas.uapi import PTRACE_SETREGSET

if TYPE_CHECKING:
    from shstk.replay.run import Run

STARTS: Final = ("first_user", "exec_done")


def ssp_path(run: Run) -> pl.LazyFrame:
    """One row for each event with a task's ssp, sorted by tid and seq.

    Columns: seq u64, tid u32, mm u32, cause str (a cfi kind, a call's name, delivery, sigreturn,
    first_user, exec_done, ptrace, dump), ssp_before u64 and ssp_after u64 (null: unknown).
    """
    return pl.concat([of_cfi(run.scan("cfi")), *other_events(run)]).sort(
        "tid", "seq", maintain_order=True
    )


def stretches(run: Run) -> Gather[tuple[int, pl.DataFrame]]:
    """The number of rows of ssp_path, and these rows with each unbroken stretch merged into one.

    A stretch consists of cfi rows of one task, without rows of other tables or tasks in between,
    each of which has the ssp that the previous one left. Sorted by tid and seq. Columns as in
    ssp_path; ssp_after is that of the stretch's last row, and last u64 is its seq.
    """
    others = pl.concat(other_events(run)).collect()
    count, found = others.height, [others.with_columns(last=pl.col("seq"))]
    while piece := (yield):
        rows = piece.brief.lazy().with_columns(begins=~pl.col("follows"))
        count += int(piece.brief["count"].cast(pl.UInt64).sum())
        edges = rows.filter(pl.col("begins") | pl.col("begins").shift(-1, fill_value=True))
        at_end = pl.when(pl.col("begins").shift(-1, fill_value=True)).then
        ends = [
            at_end(pl.col(name)).otherwise(pl.col(name).shift(-1)).alias(alias)
            for name, alias in (("ssp_after", "ssp_after"), ("seq", "last"))
        ]
        found.append(of_cfi(edges.with_columns(ends).filter("begins"), "last").collect())
    return count, pl.concat(found).sort("tid", "seq", maintain_order=True)


def other_events(run: Run, until: int = 2**64 - 1) -> list[pl.LazyFrame]:
    """The events with an ssp from tables other than cfi.

    until: a call that returned later has not moved ssp.
    """
    return [
        _calls(run, until),
        _signals(run),
        run.scan("dump_threads").select(
            "seq",
            "tid",
            "mm",
            pl.lit("dump").alias("cause"),
            pl.lit(None, pl.UInt64).alias("ssp_before"),
            pl.col("ssp").alias("ssp_after"),
        ),
        run.scan("task_events")
        .filter(pl.col("kind").cast(pl.String).is_in(STARTS))
        .select(
            "seq",
            "tid",
            "mm",
            pl.col("kind").cast(pl.String).alias("cause"),
            pl.lit(None, pl.UInt64).alias("ssp_before"),
            pl.col("ssp").alias("ssp_after"),
        ),
    ]


def of_cfi(rows: pl.LazyFrame, *more: str) -> pl.LazyFrame:
    """Rows of cfi as rows of the path, with more of their columns."""
    return rows.select(
        "seq",
        "tid",
        "mm",
        pl.col("kind").cast(pl.String).alias("cause"),
        "ssp_before",
        "ssp_after",
        *more,
    )


def _signals(run: Run) -> pl.LazyFrame:
    kind = pl.col("kind").cast(pl.String)
    return (
        run.scan("signals")
        .filter(kind != "fatal")
        .select("seq", "tid", "mm", kind.alias("cause"), "ssp_before", "ssp_after")
    )


def _calls(run: Run, until: int) -> pl.LazyFrame:
    """System calls, without the changes of ssp by a sigreturn or by a signal within the call."""
    calls = run.scan("syscalls")
    inside = (
        calls.sort("seq")
        .join_asof(
            run.scan("signals").select("tid", pl.col("seq").alias("signal")).sort("signal"),
            left_on="seq",
            right_on="signal",
            by="tid",
            strategy="forward",
            check_sortedness=False,
        )
        .with_columns(
            inner=(pl.col("signal") <= pl.col("seq_end")).fill_null(False)
            | (pl.col("seq_end") > until).fill_null(False)
            | called("rt_sigreturn")
        )
        .select(
            "seq",
            "tid",
            "mm",
            pl.col("name").fill_null("syscall").alias("cause"),
            pl.col("ssp_entry").alias("ssp_before"),
            pl.when("inner").then("ssp_entry").otherwise("ssp_exit").alias("ssp_after"),
        )
    )
    traced = set_by_debuggers(run).select(
        "seq",
        "tid",
        pl.lit(None, pl.UInt32).alias("mm"),
        pl.lit("ptrace").alias("cause"),
        pl.lit(None, pl.UInt64).alias("ssp_before"),
        pl.lit(None, pl.UInt64).alias("ssp_after"),
    )
    return pl.concat([inside, traced])


def set_by_debuggers(run: Run) -> pl.LazyFrame:
    """Calls by which a debugger set registers, possibly ssp: seq, and the traced task's tid."""
    sets = called("ptrace") & (pl.col("a0") == PTRACE_SETREGSET) & (pl.col("ret") == 0)
    tid = pl.col("a1").cast(pl.UInt32, strict=False).alias("tid")
    return run.scan("syscalls").filter(sets).select("seq", tid)
