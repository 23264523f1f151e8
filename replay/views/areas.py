"""The contents of the address spaces at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from shstk.replay.derive.regions import Regions
from shstk.replay.views.view import frame
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

COLUMNS: Final = (
    Column("mm", "u32?", "number", "address space"),
    Column("start", "u64", "address", "first byte"),
    Column("length", "u64", "size", "bytes as first mapped; a stack grows"),
    Column("prot", "u32", "bits", "PROT_* bits in effect: PROT_WRITE brings PROT_READ"),
    Column("flags", "u32", "bits", "MAP_* bits it was mapped with"),
    Column("shadow_stack", "bool", "truth", "made with VM_SHADOW_STACK"),
    Column("guard", "bool", "truth", "a guard region: MADV_GUARD_INSTALL made it inaccessible"),
    Column("input", "u32?", "number", "the file (inputs.input)"),
    Column("offset", "u64", "offset", "of the first byte in that file"),
    Column("name", "str", "name", "the file's path, or [stack], [heap], [vdso], [shadow stack]"),
    Column("made_seq", "u64", "seq", "when it was mapped"),
    Column("from_seq", "u64", "seq", "valid since: made, split, copied or protected"),
    Column("to_seq", "u64?", "seq", "valid until; null: the run's end"),
)


def build(run: Run) -> pl.DataFrame:
    """Columns of COLUMNS, by from_seq, then start."""
    names = [c.name for c in COLUMNS]
    rows = (tuple(getattr(region, name) for name in names) for region in Regions.of(run).all)
    return frame(COLUMNS, rows)
