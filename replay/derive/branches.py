"""How a recorded basic block ends: by a call, a return, or otherwise, decoded from its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from shstk.replay.run import Run

_LINK: Final = (1, 5)  # ra, and t0 as its alternate: the unprivileged manual's return-stack hints
_JAL, _JALR = 0x6F, 0x67
_C_JR, _C_JALR = 0x8002, 0x9002
_C_MASK: Final = 0xF07F

CALL: Final = "call"
RETURN: Final = "return"
OTHER: Final = "other"


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


def ending(word: int) -> str:
    """call, return or other, by a block's last instruction."""
    rd, rs1, opcode = word >> 7 & 31, word >> 15 & 31, word & 0x7F
    if opcode == _JAL:
        return CALL if rd in _LINK else OTHER
    if opcode == _JALR:
        return CALL if rd in _LINK else RETURN if rs1 in _LINK else OTHER
    compressed = word & _C_MASK if word & 3 == 2 else 0
    if compressed == _C_JALR and rd:
        return CALL
    return RETURN if compressed == _C_JR and rd in _LINK else OTHER
