from __future__ import annotations

from typing import Final

import polars as pl
import pyarrow as pa

from shstk.plugin import Memory, Plugin
from shstk.plugins.tally import Tally
from shstk.schemas.uapi import PAGE

_EVERYWHERE: Final = 2**64


class PageHeat(Plugin):
    """Which pages of memory were read and written, how often, and when first and last.

    Arguments: start=, end=: only accesses that touch this address range; top=10: lines of the
    summary. Accesses by instructions are counted, copies by the kernel are not. An access across
    two pages counts for the first.

    Table plugin_page_heat, one row for each page, by mm and address: mm u32, page u64 (address),
    loads i64, stores i64 (an AMO is both), shadow_stack i64 (how many were by sspush, sspopchk or
    ssamoswap), bytes i64, first_seq u64, last_seq u64.
    """

    def __init__(self, start: int = 0, end: int = _EVERYWHERE, top: int = 10) -> None:
        self.wants = [Memory(start, end)]
        self._top = top
        self._pages = Tally(
            "mm", "page", loads="sum", stores="sum", shadow_stack="sum", bytes="sum",
            first_seq="min", last_seq="max",
        )  # fmt: skip
        self._table: pl.DataFrame | None = None

    def on_memory(self, batch: pa.RecordBatch) -> None:
        self._pages.add(
            pl.DataFrame(batch).select(
                "mm",
                page=pl.col("addr") // PAGE * PAGE,
                loads=pl.col("read").cast(pl.Int64),
                stores=pl.col("write").cast(pl.Int64),
                shadow_stack=pl.col("shadow_stack").cast(pl.Int64),
                bytes=pl.col("size").cast(pl.Int64),
                first_seq="seq",
                last_seq="seq",
            )
        )

    def finish(self) -> pa.Table:
        counts = dict.fromkeys(("loads", "stores", "shadow_stack", "bytes"), pl.Int64)
        schema = {
            "mm": pl.UInt32,
            "page": pl.UInt64,
            **counts,
            "first_seq": pl.UInt64,
            "last_seq": pl.UInt64,
        }
        self._table = pl.DataFrame(self._pages.rows(), schema=schema)
        return self._table.to_arrow()

    def summary(self) -> str:
        assert self._table is not None
        loads, stores = self._table["loads"].sum(), self._table["stores"].sum()
        lines = [f"{self._table.height} pages, {loads} loads, {stores} stores"]
        hottest = self._table.sort(pl.col("loads") + pl.col("stores"), descending=True)
        for row in hottest.head(self._top).rows(named=True):
            lines.append(
                f"  mm {row['mm']} {row['page']:#x}: {row['loads']} loads, {row['stores']} stores"
                + (f", {row['shadow_stack']} by the shadow stack" if row["shadow_stack"] else "")
            )
        return "\n".join(lines)
