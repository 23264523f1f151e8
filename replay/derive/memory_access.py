"""The kind of an instruction's memory access, by its word."""

from __future__ import annotations

from typing import Final

import polars as pl

SHADOW: Final = ("sspush", "sspopchk", "ssamoswap")
STORES: Final = ("store", "amo", "sc")
LOADS: Final = ("load", "lr")

# mask, match, kind; the first match counts. 16-bit words never end in 0b11, 32-bit words always do.
_ROWS: Final = (
    (0xFFFF_FFFF, 0xCE10_4073, "sspush"),
    (0xFFFF_FFFF, 0xCE50_4073, "sspush"),
    (0xFFFF_FFFF, 0x0000_6081, "sspush"),  # c.sspush x1
    (0xFFFF_FFFF, 0xCDC0_C073, "sspopchk"),
    (0xFFFF_FFFF, 0xCDC2_C073, "sspopchk"),
    (0xFFFF_FFFF, 0x0000_6281, "sspopchk"),  # c.sspopchk x5
    (0xF800_607F, 0x4800_202F, "ssamoswap"),
    (0xF9F0_007F, 0x1000_002F, "lr"),
    (0xF800_007F, 0x1800_002F, "sc"),
    (0x0000_007F, 0x0000_002F, "amo"),
    (0x0000_007F, 0x0000_0003, "load"),
    (0x0000_007F, 0x0000_0007, "load"),  # of fp and vector registers
    (0x0000_007F, 0x0000_0023, "store"),
    (0x0000_007F, 0x0000_0027, "store"),
    (0xFFF0_7FFF, 0x0040_200F, "store"),  # cbo.zero
    (0xE003, 0x2000, "load"),  # c.fld, c.lw, c.ld, and from sp
    (0xE003, 0x4000, "load"),
    (0xE003, 0x6000, "load"),
    (0xE003, 0x2002, "load"),
    (0xE003, 0x4002, "load"),
    (0xE003, 0x6002, "load"),
    (0xF803, 0x8000, "load"),  # Zcb: c.lbu, c.lhu, c.lh
    (0xE003, 0xA000, "store"),  # c.fsd, c.sw, c.sd, and to sp
    (0xE003, 0xC000, "store"),
    (0xE003, 0xE000, "store"),
    (0xE003, 0xA002, "store"),
    (0xE003, 0xC002, "store"),
    (0xE003, 0xE002, "store"),
    (0xF803, 0x8800, "store"),  # Zcb: c.sb, c.sh
)


def access_of(word: int | None) -> str:
    """sspush, sspopchk, ssamoswap, lr, sc, amo, load or store; empty for any other."""
    if word is None:
        return ""
    return next((kind for mask, match, kind in _ROWS if word & mask == match), "")


def accesses(word: pl.Expr) -> pl.Expr:
    """The same for a column of words; null for any other."""
    rows = [pl.when(word & mask == match).then(pl.lit(kind)) for mask, match, kind in _ROWS]
    return pl.coalesce(rows)
