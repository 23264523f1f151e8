"""The instructions of the blocks that ran, by address and by block."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from shstk.replay.run import Run

ECALL: Final = 0x00000073
_JALR: Final = 0x67
_LPAD: Final = 0x17  # auipc x0
_LINKS: Final = (1, 5, 7)  # jumps through these expect no landing pad
_CSR_SSP: Final = 0x011

# word & mask == match, as the manual encodes them; compressed ones have 16 bits
_WORDS: Final = (
    ("sspush", 0xFFFFFFFF, 0xCE104073),
    ("sspush", 0xFFFFFFFF, 0xCE504073),
    ("sspush", 0xFFFFFFFF, 0x6081),
    ("sspopchk", 0xFFFFFFFF, 0xCDC0C073),
    ("sspopchk", 0xFFFFFFFF, 0xCDC2C073),
    ("sspopchk", 0xFFFFFFFF, 0x6281),
    ("ssrdp", 0xFFFFF07F, 0xCDC04073),
    ("ssamoswap.w", 0xF800707F, 0x4800202F),
    ("ssamoswap.d", 0xF800707F, 0x4800302F),
    ("lpad", 0x00000FFF, _LPAD),
)


class Instruction(NamedTuple):
    """One instruction of a block: its address and word."""

    block: int
    pc: int
    word: int


def name_of(word: int) -> str | None:
    """The kind of cfi event that an instruction makes (ssamoswap with its width), or None."""
    for name, mask, match in _WORDS:
        if word & mask == match:
            return name
    funct3, register = word >> 12 & 7, word >> 15 & 31
    if word & 0x7F != 0x73 or funct3 in (0, 4) or word >> 20 != _CSR_SSP:
        return None
    return "ssp_write" if funct3 % 4 == 1 or register else "ssp_read"


def expects_pad(word: int) -> bool:
    """Whether an instruction is a jump that must land on a pad: jalr, c.jr, c.jalr."""
    if word & 3 != 3:  # c.jr and c.jalr: rs2 is 0 and rs1 is not
        return word & 0xE07F == 0x8002 and (word >> 7 & 31) not in (0, *_LINKS)
    return word & 0x707F == _JALR and (word >> 15 & 31) not in _LINKS


class Code:
    """All blocks of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __iter__(self) -> Iterator[Instruction]:
        rows = self._run.table("code").select("block", "pc", "bytes")
        for block, pc, data in rows.iter_rows():
            at = 0
            while at + 2 <= len(data):
                size = 4 if data[at] & 3 == 3 else 2
                yield Instruction(block, pc + at, int.from_bytes(data[at : at + size], "little"))
                at += size

    @cached_property
    def words(self) -> dict[int, set[int]]:
        """Every word that was at an address, by address."""
        found: dict[int, set[int]] = {}
        for _, pc, word in self:
            found.setdefault(pc, set()).add(word)
        return found

    @cached_property
    def blocks(self) -> dict[int, list[int]]:
        """The words of a block, by block number."""
        found: dict[int, list[int]] = {}
        for block, _, word in self:
            found.setdefault(block, []).append(word)
        return found

    @cached_property
    def starts(self) -> dict[int, int]:
        """The address of a block, by block number."""
        return dict(self._run.table("code").select("block", "pc").iter_rows())

    @property
    def ecalls(self) -> set[int]:
        return {pc for pc, words in self.words.items() if ECALL in words}
