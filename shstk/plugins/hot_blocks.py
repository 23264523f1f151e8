from __future__ import annotations

from typing import Final

import polars as pl
import pyarrow as pa

from shstk.plugin import Blocks, Module, Plugin
from shstk.plugins.places import Places
from shstk.plugins.tally import Tally

_EVERYWHERE: Final = 2**64


class HotBlocks(Plugin):
    """Which basic blocks ran most often: runs, instructions, and their symbols.

    Arguments: start=, end=: only blocks that begin in this address range; top=10: lines of the
    summary.

    Table plugin_hot_blocks, one row for each block, most instructions first: block u32
    (code.block), pc u64, module str, symbol str or null, offset i64 (bytes from the symbol, or the
    ELF address), line str or null (file:line), length i64 (bytes), runs i64 (times it was entered),
    instructions i64 (that ran in it), first_seq u64.
    """

    def __init__(self, start: int = 0, end: int = _EVERYWHERE, top: int = 10) -> None:
        self.wants = [Blocks(start, end)]
        self._top = top
        self._places = Places()
        self._blocks = Tally(
            "block", pc="first", module="first", length="first", instructions="sum", runs="sum",
            seq="min",
        )  # fmt: skip
        self._table: pl.DataFrame | None = None

    def on_module(self, module: Module) -> None:
        self._places.add(module)

    def on_blocks(self, batch: pa.RecordBatch) -> None:
        frame = pl.DataFrame(batch)
        self._blocks.add(
            frame.with_columns(
                pl.col("length").cast(pl.Int64),
                instructions=pl.col("ran").cast(pl.Int64),
                runs=pl.lit(1, pl.Int64),
            )
        )

    def finish(self) -> pa.Table:
        rows = []
        for row in sorted(self._blocks.rows(), key=lambda r: (-r["instructions"], r["block"])):
            place = self._places.at(row["module"], row["pc"])
            rows.append(
                {
                    **row,
                    "module": place.module,
                    "symbol": place.symbol,
                    "offset": place.offset,
                    "line": place.source,
                    "first_seq": row["seq"],
                }
            )
        schema: dict[str, type[pl.DataType]] = {
            "block": pl.UInt32,
            "pc": pl.UInt64,
            "module": pl.String,
            "symbol": pl.String,
            "offset": pl.Int64,
            "line": pl.String,
            "length": pl.Int64,
            "runs": pl.Int64,
            "instructions": pl.Int64,
            "first_seq": pl.UInt64,
        }
        self._table = pl.DataFrame([{k: r[k] for k in schema} for r in rows], schema=schema)
        return self._table.to_arrow()

    def summary(self) -> str:
        assert self._table is not None
        total = self._table["instructions"].sum()
        lines = [f"{self._table.height} blocks, {total} instructions"]
        for row in self._table.head(self._top).rows(named=True):
            name = row["symbol"] or row["module"]
            lines.append(
                f"  {row['instructions'] / total:6.1%} {row['runs']:>10} x {row['pc']:#x} "
                f"{name}+{row['offset']:#x}" + (f" ({row['line']})" if row["line"] else "")
            )
        return "\n".join(lines)
