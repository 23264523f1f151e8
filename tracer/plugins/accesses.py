"""The memory accesses of instruction words: read, write, shadow stack."""

from __future__ import annotations

from functools import cache
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

READ: Final = 1
WRITE: Final = 2
SHADOW_STACK: Final = 4

# (mask, match, access); the first match is used. A 32-bit word ends in binary 11, a 16-bit one
# never does.
_WORDS: Final = (
    (0xF800007F, 0x1000002F, READ),  # lr
    (0xF800007F, 0x1800002F, WRITE),  # sc
    (0xF800007F, 0x4800002F, READ | WRITE | SHADOW_STACK),  # ssamoswap
    (0x0000007F, 0x0000002F, READ | WRITE),  # other AMOs
    (0x0000007F, 0x00000003, READ),  # loads
    (0x0000007F, 0x00000007, READ),  # of f and v registers
    (0x0000007F, 0x00000023, WRITE),  # stores
    (0x0000007F, 0x00000027, WRITE),
    (0x0000707F, 0x0000200F, WRITE),  # cbo.zero
    (0xFFBFFFFF, 0xCE104073, WRITE | SHADOW_STACK),  # sspush
    (0xFFFDFFFF, 0xCDC0C073, READ | SHADOW_STACK),  # sspopchk
    (0x0000FFFF, 0x00006081, WRITE | SHADOW_STACK),  # c.sspush
    (0x0000FFFF, 0x00006281, READ | SHADOW_STACK),  # c.sspopchk
    *((0xE003, quadrant | 0x2000 * op, READ) for quadrant in (0, 2) for op in (1, 2, 3)),  # c.ld…
    *((0xE003, quadrant | 0x2000 * op, WRITE) for quadrant in (0, 2) for op in (5, 6, 7)),  # c.sd…
    (0x0000F803, 0x00008000, READ),  # c.lbu, c.lhu, c.lh
    (0x0000F803, 0x00008800, WRITE),  # c.sb, c.sh
)


@cache
def access_of(word: int) -> int:
    """READ, WRITE and SHADOW_STACK bits; 0 for a word that does not access memory."""
    return next((what for mask, match, what in _WORDS if word & mask == match), 0)


def accesses(insn: pa.RecordBatch, start: int, end: int, which: int) -> pa.RecordBatch:
    """The accesses to [start, end) among rows of the table insn, with the columns of Memory.

    which: READ, WRITE or both.
    """
    insn = insn.filter(insn["mem_addr"].is_valid())
    if end < 2**64:
        insn = insn.filter(pc.less(insn["mem_addr"], pa.scalar(end, pa.uint64())))
    if start:
        before = pc.min_element_wise(insn["mem_addr"], pa.scalar(start, pa.uint64()))
        short = pc.subtract(pa.scalar(start, pa.uint64()), before)  # bytes before start
        insn = insn.filter(pc.less(short, insn["mem_size"].cast(pa.uint64())))
    words = insn["word"].dictionary_encode()
    kinds = pa.array([access_of(word) for word in words.dictionary.to_pylist()], pa.uint8())
    kind = kinds.take(words.indices)

    def has(bit: int) -> pa.Array:
        return pc.not_equal(pc.bit_wise_and(kind, pa.scalar(bit, pa.uint8())), 0)

    columns = {
        "seq": insn["seq"],
        "tid": insn["tid"],
        "mm": insn["mm"],
        "pc": insn["pc"],
        "word": insn["word"],
        "addr": insn["mem_addr"],
        "size": insn["mem_size"],
        "value": insn["mem_value"],
        "read": has(READ),
        "write": has(WRITE),
        "shadow_stack": has(SHADOW_STACK),
        "ssp": insn["ssp"],
    }
    found = pa.record_batch(columns)
    return found if which == READ | WRITE else found.filter(has(which))
