"""Pushes of one task on a shadow stack that another task is still on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from replay.derive.history import History
from replay.derive.pieces import pieces
from replay.derive.places import Mark, last_marks
from replay.derive.ssp_path import ssp_path
from replay.derive.stacks import Stack

if TYPE_CHECKING:
    import polars as pl

    from replay.run import Run


@dataclass(frozen=True, slots=True)
class Clash:
    """The first push of `tid` on a stack where `other` pushed at other_seq and still is."""

    stack: Stack
    seq: int
    tid: int
    addr: int
    other: int
    other_seq: int
    other_ssp: int


def clashes(run: Run, history: History, stacks: list[Stack]) -> tuple[int, list[Clash]]:
    """How many pushes went to known stacks, and the first clash of each two tasks on each stack."""
    import polars as pl

    count = 0
    found: dict[tuple[int, int, int], Clash] = {}
    last_push = last_ssp = None  # of each stack, of each task, in the pieces before
    for piece in pieces(run):
        cfi = piece.cfi.lazy().filter(pl.col("kind").cast(pl.String) == "sspush")
        pushes = on_stacks(cfi, stacks)
        count += pushes.height
        pushes = pl.concat([pushes.clear() if last_push is None else last_push, pushes])
        path = ssp_path(run, piece).select("seq", "tid", "ssp_after").collect()
        path = pl.concat([path.clear() if last_ssp is None else last_ssp, path])
        for mark, seq, tid, addr, other, other_seq, ssp in _candidates(pushes, path).iter_rows():
            stack = stacks[mark]
            if (mark, tid, other) in found or ssp is None or not stack.area.holds(ssp):
                continue
            if not _excused(history, stack, tid, other, seq):
                found[mark, tid, other] = Clash(stack, seq, tid, addr, other, other_seq, ssp)
        last_push = pushes.sort("seq").unique("mark", keep="last", maintain_order=True)
        last_ssp = path.sort("seq").unique("tid", keep="last", maintain_order=True)
    return count, list(found.values())


def _candidates(pushes: pl.DataFrame, path: pl.DataFrame) -> pl.DataFrame:
    """Pushes on a stack where another task pushed last, with that task's ssp at the time."""
    import polars as pl

    changes = (
        pushes.sort("mark", "seq")
        .with_columns(
            other=pl.col("tid").shift().over("mark"), other_seq=pl.col("seq").shift().over("mark")
        )
        .filter(pl.col("other") != pl.col("tid"))
        .sort("seq")
    )
    at = path.sort("seq").select(
        pl.col("tid").alias("other"), pl.col("seq").alias("at"), other_ssp="ssp_after"
    )
    return changes.join_asof(
        at, left_on="seq", right_on="at", by="other", check_sortedness=False
    ).select("mark", "seq", "tid", "addr", "other", "other_seq", "other_ssp")


def on_stacks(rows: pl.LazyFrame, stacks: list[Stack]) -> pl.DataFrame:
    """The rows that lie on a stack; mark is its index in `stacks`, mark_seq when it was mapped."""
    import polars as pl

    marks = [Mark(s.mm, s.area, s.seq, i) for i, s in enumerate(stacks)]
    wanted = rows.select("seq", "tid", "mm", "addr", "fault").collect()
    return last_marks(wanted, marks).filter(pl.col("mark").is_not_null())


def _excused(history: History, stack: Stack, tid: int, other: int, seq: int) -> bool:
    """Whether the other is dead or waits in vfork, or a clone put one of the two there."""
    mine, theirs = history.task(tid, seq), history.task(other, seq)
    if mine is None or theirs is None or not theirs.lives(seq):
        return True
    waits = any(
        c.parent is theirs
        and c.kind == "vfork"
        and c.seq < seq
        and (c.row.seq_end is None or seq < c.row.seq_end)
        for c in history.clones
    )
    return waits or any(
        c.child in (mine, theirs)
        and c.mapped.stack is None
        and c.first_ssp is not None
        and stack.mm == (c.child.mm if c.child else None)
        and (stack.area.holds(c.first_ssp) or c.first_ssp == stack.area.top)
        for c in history.clones
    )
