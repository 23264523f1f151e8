"""How a recorded basic block ends: by a call, a return, or otherwise, decoded from its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from shstk.schemas.links import ending

if TYPE_CHECKING:
    from shstk.replay.run import Run


def blocks(run: Run) -> pl.DataFrame:
    """The code table's blocks with their ends.

    Columns: block u32, pc u64, count u32 (instructions), ends str (call, return or other), site u64
    (address of the last instruction), past u64 (address after the block: where a call returns to).
    """
    rows = [
        (block, pc, *_read(pc, data), pc + len(data))
        for block, pc, data in run.table("code").select("block", "pc", "bytes").iter_rows()
        if data
    ]
    schema = {
        "block": pl.UInt32,
        "pc": pl.UInt64,
        "count": pl.UInt32,
        "ends": pl.String,
        "site": pl.UInt64,
        "past": pl.UInt64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _read(pc: int, data: bytes) -> tuple[int, str, int]:
    instructions = list(_instructions(data))
    offset, word = instructions[-1]
    return len(instructions), ending(word), pc + offset


def _instructions(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, word) of each instruction."""
    at = 0
    while at < len(data):
        size = 4 if data[at] & 3 == 3 else 2
        yield at, int.from_bytes(data[at : at + size], "little")
        at += size
