"""The instruction at an event's pc is one that makes such an event.

## What it checks
The instruction at the pc of each cfi row is of the row's kind: sspush or c.sspush x1 or x5,
sspopchk, ssrdp, ssamoswap, a csr instruction on ssp, or lpad with the row's label; it is not an
lpad if the row says that none was found. ssamoswap.d needs 8-byte alignment, and ssamoswap.w moves
32 bits.

## Why it matters
It is the only check of events against the program's own bytes.

## When it applies
Every recorded run of a program with cfi and flow; addresses whose code is in the run.

## Evidence columns
cfi.pc, kind, value, addr; code.pc, bytes.

## Example
    t1 sspush 0x10234 pc=0x10000
    block 1 hex:13000000 pc=0x10000

## Not a violation when
the code at that address changed during the run: any word that was there is accepted.

## How to investigate
    shstk query RUN "SELECT * FROM code WHERE pc <= <pc> AND pc + length > <pc>"

## Sources
ISA manual, unprivileged CFI chapter: the encodings; Zimop: mop.r.28 and mop.rr.7 are redefined with
these operands only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import polars as pl

from shstk.replay import _core
from shstk.replay.derive.code import name_of
from shstk.replay.derive.gather import Gather
from shstk.replay.derive.instructions import NO_PAD, done, kind
from shstk.replay.derive.made import frame
from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import Outcome, Satisfied, Unknown
from shstk.schemas.causes import STORE_ACCESS

NEEDS = ("cfi", "cfi.value")
APPLIES = "shadow-stack instruction or landing pad of a recorded run"


_PLAIN: Final = ("sspush", "sspopchk", "lpad")  # as replay/core/plain.hpp numbers them
_PLACES: Final = {
    "pc": pl.UInt64,
    "kind": pl.UInt8,
    "label": pl.UInt64,
    "count": pl.UInt64,
    "seq": pl.UInt64,
    "tid": pl.UInt32,
    "mm": pl.UInt32,
    "addr": pl.UInt64,
}


def _places(facts: Facts) -> Gather[pl.DataFrame]:
    """The first row of those alike that are of one instruction, and how many there are."""
    core, odd = _core.Places(), []
    label = pl.when(kind() == "lpad").then("value")
    wide = (pl.col("addr") % 8 != 0) & (pl.col("fault") != STORE_ACCESS).fill_null(True)
    big = (pl.max_horizontal("value", "operand") >= 2**32) & done()
    swap, same = kind() == "ssamoswap", ["pc", "kind", "label", "wide", "big"]
    count, first = pl.col("count").cast(pl.UInt64).sum(), pl.col("seq", "tid", "mm", "addr").first()
    piece = yield core
    while piece:
        rows = piece.brief.lazy().filter(~pl.col("plain")).with_columns(
            kind().cast(pl.String), label=label, wide=wide & swap, big=big & swap
        )  # fmt: skip
        odd.append(rows.group_by(same, maintain_order=True).agg(count, first).collect())
        piece = yield
    plain = frame(core.end(), _PLACES).with_columns(
        kind().replace_strict(dict(enumerate(_PLAIN)), return_dtype=pl.String),
        wide=pl.lit(False),
        big=pl.lit(False),
    )
    both = pl.concat([*odd, plain.select(odd[0].columns)]).sort("seq")
    return both.group_by(same, maintain_order=True).agg(count, first).sort("seq")


GATHERS = (_places,)


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    places = facts.gathered(_places)
    for row in places.iter_rows(named=True):
        words = facts.code.words.get(row["pc"])
        if words is None:
            yield Unknown("the code at these addresses is not recorded")
        elif any(_makes(word, row) for word in words):
            yield Satisfied(row["count"])
        else:
            shown = " or ".join(f"{word:#x}" for word in sorted(words))
            pc = f"at pc {row['pc']:#x}"
            yield trace.odd(row, _due(row), shown, f"the instruction {pc}", row["addr"])


def _makes(word: int, row: dict[str, Any]) -> bool:
    """Whether this instruction makes the events of a group."""
    name = name_of(word)
    if row["label"] == NO_PAD:
        return name != "lpad"
    if name == "lpad":
        return (row["kind"], row["label"]) == (name, word >> 12)
    if name == "ssamoswap.d":
        return row["kind"] == "ssamoswap" and not row["wide"]
    if name == "ssamoswap.w":
        return row["kind"] == "ssamoswap" and not row["big"]
    return bool(name == row["kind"])


def _due(row: dict[str, Any]) -> str:
    if row["label"] == NO_PAD:
        return "no lpad"
    return f"lpad {row['label']:#x}" if row["kind"] == "lpad" else str(row["kind"])
