from __future__ import annotations

from typing import Final

import polars as pl
import pyarrow as pa

from shstk.plugin import Instructions, Plugin
from shstk.plugins.tally import Tally
from shstk.tracer._core import decode

_EVERYWHERE: Final = 2**64

# Major opcodes (bits 6:0) of what a word expands to.
_CLASSES: Final = {
    0x03: "load",
    0x07: "load",
    0x23: "store",
    0x27: "store",
    0x2F: "atomic",
    0x63: "branch",
    0x67: "jump",
    0x6F: "jump",
    0x43: "float",
    0x47: "float",
    0x4B: "float",
    0x4F: "float",
    0x53: "float",
    0x57: "vector",
    0x0F: "fence",
    0x73: "system",
}
_NAMED: Final = {
    "sspush": "shadow stack",
    "sspopchk": "shadow stack",
    "ssrdp": "shadow stack",
    "ssamoswap_w": "shadow stack",
    "ssamoswap_d": "shadow stack",
    "lpad": "landing pad",
}


class InsnMix(Plugin):
    """How often each instruction ran, by mnemonic.

    Arguments: start=, end=: only instructions in this address range; top=10: lines of the
    summary. Compressed instructions count as what they expand to.

    Table plugin_insn_mix, one row for each mnemonic, most frequent first: mnemonic str, kind str
    (arithmetic, load, store, branch, jump, atomic, float, vector, system, fence, shadow stack,
    landing pad), count i64, compressed i64 (how many of them were), words i64 (distinct encodings).
    """

    def __init__(self, start: int = 0, end: int = _EVERYWHERE, top: int = 10) -> None:
        self.wants = [Instructions(start, end)]
        self._top = top
        self._words = Tally("word", count="sum")
        self._table: pl.DataFrame | None = None

    def on_instructions(self, batch: pa.RecordBatch) -> None:
        words = pl.DataFrame({"word": pl.Series(batch["word"])})
        self._words.add(words.with_columns(count=pl.lit(1, pl.Int64)))

    def finish(self) -> pa.Table:
        found: dict[str, list[int | str]] = {}
        for row in self._words.rows():
            name, kind = _named(row["word"])
            entry = found.setdefault(name, [name, kind, 0, 0, 0])
            counts = (row["count"], row["count"] if row["word"] & 3 != 3 else 0, 1)
            entry[2:] = [old + new for old, new in zip(entry[2:], counts, strict=True)]
        schema = {
            "mnemonic": pl.String,
            "kind": pl.String,
            "count": pl.Int64,
            "compressed": pl.Int64,
            "words": pl.Int64,
        }
        table = pl.DataFrame(list(found.values()), schema=schema, orient="row")
        self._table = table.sort("count", "mnemonic", descending=[True, False])
        return self._table.to_arrow()

    def summary(self) -> str:
        assert self._table is not None
        total = self._table["count"].sum()
        lines = [f"{total} instructions, {self._table.height} mnemonics"]
        for name, kind, count, *_ in self._table.head(self._top).iter_rows():
            lines.append(f"  {count / total:6.1%} {count:>12} {name:12} {kind}")
        return "\n".join(lines)


def _named(word: int) -> tuple[str, str]:
    """Mnemonic and kind."""
    decoded = decode(word)
    if decoded is None:
        return f"{word:#x}", "unknown"
    name = decoded[0]
    kind = _NAMED.get(name) or (
        _CLASSES.get(word & 0x7F, "arithmetic") if word & 3 == 3 else _COMPRESSED.get(name)
    )
    return name.replace("_", "."), kind or "arithmetic"


# Compressed instructions whose expansion is not arithmetic.
_COMPRESSED: Final = {
    **dict.fromkeys(("lw", "ld", "fld", "lbu", "lhu", "lh"), "load"),
    **dict.fromkeys(("sw", "sd", "fsd", "sb", "sh"), "store"),
    **dict.fromkeys(("beq", "bne"), "branch"),
    **dict.fromkeys(("jal", "jalr"), "jump"),
    "ebreak": "system",
    "fence": "fence",
}
