"""What an instruction is, as far as the log's reader needs to know."""

from __future__ import annotations

from typing import Final

CSR_SSP: Final = 0x011
RETURNS: Final = (0x3020_0073, 0x1020_0073, 0x7020_0073)  # mret, sret, mnret
_LINKS: Final = (1, 5, 7)  # jumps through these expect no landing pad
# word & mask == match, as the manual encodes them; compressed ones have 16 bits.
_KINDS: Final = (
    ("sspush", 0xFFFF_FFFF, 0xCE10_4073),
    ("sspush", 0xFFFF_FFFF, 0xCE50_4073),
    ("sspush", 0xFFFF_FFFF, 0x6081),
    ("sspopchk", 0xFFFF_FFFF, 0xCDC0_C073),
    ("sspopchk", 0xFFFF_FFFF, 0xCDC2_C073),
    ("sspopchk", 0xFFFF_FFFF, 0x6281),
    ("ssrdp", 0xFFFF_F07F, 0xCDC0_4073),
    ("ssamoswap", 0xF800_607F, 0x4800_202F),  # .w and .d
    ("lpad", 0x0000_0FFF, 0x0000_0017),
)
# sfence.vma, sinval.vma, hfence.vvma, hfence.gvma, hinval.vvma, hinval.gvma
_FENCES: Final = (0x09, 0x0B, 0x11, 0x31, 0x13, 0x33)


def kind_of(word: int) -> str | None:
    """The kind of its rows in cfi; None: it is none of these instructions."""
    if word & 0x7F not in (0x73, 0x2F, 0x17, 0x01):
        return None
    for kind, mask, match in _KINDS:
        if word & mask == match:
            return kind
    funct3, source = word >> 12 & 7, word >> 15 & 31
    if word & 0x7F != 0x73 or funct3 in (0, 4) or word >> 20 != CSR_SSP:
        return None
    return "ssp_write" if funct3 % 4 == 1 or source else "ssp_read"


def checked_register(word: int) -> int:
    """The register that a sspopchk compares."""
    return 5 if word == 0x6281 else word >> 15 & 31


def fences(word: int) -> bool:
    """Whether pages may be others after it."""
    return word & 0x7FFF == 0x73 and word >> 25 in _FENCES


def jump(word: int) -> tuple[int, int] | None:
    """Of an indirect jump that must land on a pad (jalr, c.jr, c.jalr): the register that it jumps
    through, and the offset."""
    register = word >> (7 if word & 3 != 3 else 15) & 31
    if word & 3 != 3:  # rs2 is 0, and rs1 is not
        found, offset = word & 0xE07F == 0x8002 and register != 0, 0
    else:
        found, offset = word & 0x707F == 0x67, word >> 20
    if not found or register in _LINKS:
        return None
    return register, offset - 0x1000 if offset >= 0x800 else offset
