"""Why ssp changed, for each event with an ssp."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.nearest import Point, lasts, lasts_of
from shstk.replay.derive.ssp_path import STARTS, of_cfi, other_events
from shstk.replay.derive.stacks import Ledger

if TYPE_CHECKING:
    from shstk.replay.run import Run

_COLUMNS: Final = ("seq", "tid", "mm", "cause", "ssp_before", "ssp_after")

_REASONS: Final = {
    "sspush": "push",
    "sspopchk": "pop",
    "delivery": "signal",
    "sigreturn": "sigreturn",
    "first_user": "handoff",
    "exec_done": "exec",
    "execve": "exec",
    "execveat": "exec",
    "prctl": "prctl",
    "ptrace": "ptrace",
}


def with_reasons(path: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Adds `reason` to the frame of derive/ssp_path.py."""
    last = pl.col("ssp_after").shift().over("tid")
    return _reasoned(path.with_columns(last=last), ledger).drop("last")


def motions(run: Run, ledger: Ledger) -> pl.DataFrame:
    """The changes of ssp other than pushes and pops: those rows of the frame that have such a
    reason, sorted by tid and seq, and pc u64. It takes memory for these only."""
    moves = (pl.col("kind").cast(pl.String) == "ssp_write") & (
        pl.col("ssp_before") != pl.col("ssp_after")
    )
    writes = run.scan("cfi").filter(moves)
    others = pl.concat(other_events(run)).filter(
        pl.col("ssp_before").ne_missing(pl.col("ssp_after")) | (pl.col("cause") == "ptrace")
    )
    calls = run.scan("syscalls").select("seq", "pc")
    parts = [
        of_cfi(writes, "pc"),
        others.join(calls, on="seq", how="left").select(*_COLUMNS, "pc"),
    ]
    rows = pl.concat(parts).collect().sort("tid", "seq", maintain_order=True)
    untold = rows.filter(pl.col("ssp_before").is_null()).select("tid", "seq")
    lasts = last_ssps(run, untold.drop_nulls().rows())
    last = [lasts.get(point) for point in untold.iter_rows()]
    told = untold.with_columns(last=pl.Series(last, dtype=pl.UInt64))
    rows = rows.join(told, on=["tid", "seq"], how="left", nulls_equal=True, maintain_order="left")
    reason = pl.col("reason")
    kept = reason.is_not_null() & ~reason.is_in(["push", "pop"])
    return _reasoned(rows, ledger).filter(kept).drop("last")


def last_ssps(run: Run, points: Iterable[Point]) -> dict[Point, int]:
    """The ssp that a task's last event before each point (tid, seq) left, where one is known."""
    points = list(points)
    found: dict[Point, tuple[int, int | None]] = {}
    known = pl.col("ssp_after").is_not_null()
    found |= lasts(run, points, known, "ssp_after")
    others = pl.concat(other_events(run)).filter(known).collect().sort("seq")
    for point, (seq, ssp) in lasts_of(others.lazy(), points, "ssp_after").items():
        if point not in found or seq > found[point][0]:
            found[point] = seq, ssp
    return {point: ssp for point, (_, ssp) in found.items() if ssp is not None}


def _reasoned(path: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """last: the ssp that the task's row before left."""
    # The row before a task's first may be that of another task with the same tid.
    last = pl.when(pl.col("cause") != "first_user").then(pl.col("last"))
    known = pl.col("ssp_before").fill_null(last)
    seen = pl.col("ssp_after").is_not_null() & (pl.col("cause") != "dump")
    recorded = seen | (pl.col("cause") == "ptrace")
    begun = pl.col("cause").is_in(STARTS) & known.is_null() & (pl.col("ssp_after") == 0)
    handed = (pl.col("cause") == "first_user") & (pl.col("ssp_after") != 0)
    moved = (known.ne_missing(pl.col("ssp_after")) & recorded & ~begun) | handed
    reason = pl.col("cause").replace_strict(_REASONS, default="call", return_dtype=pl.String)
    changed = pl.col("ssp_before") != pl.col("ssp_after")
    writes = path.filter((pl.col("cause") == "ssp_write") & changed)
    kinds = [
        motion(ledger, mm, before, after, seq)
        for seq, mm, before, after in writes.select(
            "seq", "mm", "ssp_before", "ssp_after"
        ).iter_rows()
    ]
    written = writes.select("seq", "tid").with_columns(pl.Series("written", kinds, pl.String))
    return (
        path.join(written, on=["seq", "tid"], how="left", nulls_equal=True, maintain_order="left")
        .with_columns(reason=pl.when(moved).then(pl.col("written").fill_null(reason)))
        .drop("written")
    )


def motion(ledger: Ledger, mm: int | None, before: int, after: int, seq: int) -> str:
    """The meaning of a write of csr ssp: longjmp, rewind, pivot or astray."""
    here, there = ledger.on(mm, before, seq), ledger.on(mm, after, seq)
    if there is None:
        return "astray"
    if here is not there:
        return "pivot"
    return "longjmp" if after > before else "rewind"
