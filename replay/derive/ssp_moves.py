"""Changes of ssp that nothing explains, and those that another rule reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from shstk.replay.derive.history import History

if TYPE_CHECKING:
    from shstk.replay.run import Run


def wrong_moves(
    run: Run, history: History, path: pl.DataFrame, token: int, motions: dict[int, int | None]
) -> list[dict[str, Any]]:
    """Events with a wrong ssp, one per seq. path: the stretches of derive/ssp_path.py.

    token: the bytes by which the revision's deliveries decrement ssp, 8 or 0. motions: the
    instructions with a wrong one, which other rules report.

    Each has seq, tid, mm, cause, what (is wrong), due, is, last (seq of the event before it if the
    two disagree, else None).
    """
    wrong: dict[int, dict[str, Any]] = {}
    for row in _signals(run, token).iter_rows(named=True):
        wrong.setdefault(row["seq"], row)
    reported = moved_elsewhere(run, history).keys() | motions.keys() | wrong.keys()
    for row in _gaps(path).iter_rows(named=True):
        if row["last"] not in reported and row["seq"] not in reported:
            wrong[row["seq"]] = row
    return list(wrong.values())


def _wrong(rows: pl.LazyFrame, what: str) -> pl.DataFrame:
    """Rows whose `is` and `due` are known and differ."""
    return (
        rows.filter(pl.col("is") != pl.col("due"))
        .select("seq", "tid", "mm", "cause", pl.lit(what).alias("what"), "due", "is", "last")
        .collect()
    )


def _signals(run: Run, moved: int) -> pl.DataFrame:
    """Delivery pushes a token, if any; sigreturn sets ssp to a valid token or leaves it."""
    kind, before = pl.col("kind").cast(pl.String), pl.col("ssp_before")
    token, word = pl.col("token_addr"), pl.col("token_value")
    after = pl.col("ssp_after")
    unknown = token.is_null() & ((after == before - 8) | (kind == "sigreturn"))
    back = (kind == "sigreturn") & (word.is_null() | ((word == token + 8) & (after == word)))
    rows = run.scan("signals").with_columns(cause=kind, last=pl.lit(None, pl.UInt64))
    due = (
        pl.when((kind == "delivery") & token.is_not_null())
        .then(before - moved)
        .when(back | unknown)
        .then(after)
        .otherwise(before)
    )
    return _wrong(rows.with_columns(after.alias("is"), due=due), "ssp afterwards")


def moved_elsewhere(run: Run, history: History) -> dict[int, int | None]:
    """Events whose wrong ssp other rules report: handoffs, calls, execs. seq → tid."""
    moved: dict[int, int | None] = {}
    calls = run.scan("syscalls").filter(pl.col("ssp_entry") != pl.col("ssp_exit"))
    moved |= dict(calls.select("seq", "tid").collect().iter_rows())
    for call in history.prctls:
        stack = call.mapped.stack
        moved.pop(call.seq, None)
        if call.row.ssp_exit != (stack.top if stack else call.row.ssp_entry):
            moved[call.seq] = call.row.tid
    for clone in history.clones:
        first = clone.child.first_user if clone.child else None
        stack = clone.mapped.stack
        if first and first.ssp != (stack.top if stack else clone.parent_ssp):
            moved[first.seq] = first.tid
    for step in history.execs:
        if step.succeeded and step.done.ssp:
            moved[step.seq] = step.done.tid
    return moved


def _gaps(path: pl.DataFrame) -> pl.DataFrame:
    """Between two events of a task ssp must not change."""
    chained = path.lazy().with_columns(
        pl.col("ssp_before").alias("is"),
        due=pl.col("ssp_after").shift().over("tid"),
        last=pl.col("last").shift().over("tid"),
    )
    return _wrong(chained, "ssp still")
