"""What the tables of instructions tell by their positions and tasks, and flow by its blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay import _core
from shstk.replay.derive.gather import Gather
from shstk.replay.derive.made import frame, numbers
from shstk.schemas.seq import STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shstk.replay.run import Run

_WHO: Final = {"tid": pl.UInt32, "mm": pl.UInt32}
_AT: Final = {"seq": pl.UInt64}
_TURN: Final = {"seq": pl.UInt64, "last": pl.UInt64}


@dataclass(frozen=True)
class Trail:
    """count: of rows.

    turns: stretches of consecutive rows of one task in one address space: seq u64 (of the first),
    last u64 (of the last), tid u32, mm u32.
    odd: rows that are not after the one before, at the end of an instruction and within the run:
    seq, tid, mm.
    spaces: of each address space mm u32, seq u64 and last u64 of its rows, tid u32 of the first.
    """

    count: int
    turns: pl.DataFrame
    odd: pl.DataFrame
    spaces: pl.DataFrame


def of_cfi(run: Run) -> Gather[Trail]:
    """The trail of cfi."""
    core = _core.Trail(STEPS, run.manifest.icount)
    piece = yield core
    while piece:
        piece = yield
    return _told(core)


def trail(run: Run, table: str) -> Trail:
    """That of another table."""
    core = _core.Trail(STEPS, run.manifest.icount)
    for batch in run.batches(table, "seq", "tid", "mm"):
        core.take(batch)
    return _told(core)


@dataclass(frozen=True)
class Steps:
    """count: of the rows of flow.

    odd: those whose block took another number of instructions than it has: seq, tid, mm, block,
    took, then (the next block), has.
    firsts: of each block that ran: block u32, first u64 (seq), by u32 (tid).
    """

    count: int
    odd: pl.DataFrame
    firsts: pl.DataFrame


def walked(run: Run, lengths: Mapping[int, int]) -> tuple[Trail, Steps]:
    """That of flow, and its steps. lengths: of blocks, in instructions."""
    blocks, counts = (pl.Series(list(v), dtype=pl.UInt64) for v in (lengths, lengths.values()))
    steps = _core.Steps(STEPS, numbers(blocks), numbers(counts))
    core = _core.Trail(STEPS, run.manifest.icount)
    for batch in run.batches("flow"):
        core.take(batch)
        steps.take(batch)
    count, odd, firsts = steps.end()
    block = {"block": pl.UInt32}
    took = {"took": pl.UInt64, "then": pl.UInt32, "has": pl.UInt64}
    return _told(core), Steps(
        count,
        frame(odd, {**_AT, **_WHO, **block, **took}),
        frame(firsts, {**block, "first": pl.UInt64, "by": pl.UInt32}),
    )


def _told(core: _core.Trail) -> Trail:
    count, turns, odd, spaces = core.end()
    return Trail(
        count,
        frame(turns, {**_TURN, **_WHO}),
        frame(odd, {**_AT, **_WHO}),
        frame(spaces, {"mm": pl.UInt32, **_TURN, "tid": pl.UInt32}),
    )
