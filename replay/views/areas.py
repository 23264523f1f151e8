"""The address spaces, as they were at any time."""

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
    Column("length", "u64", "size", "bytes as it was mapped; a stack grows"),
    Column("prot", "u32", "bits", "PROT_* bits"),
    Column("flags", "u32", "bits", "MAP_* bits as it was mapped"),
    Column("shadow_stack", "bool", "truth", "made with VM_SHADOW_STACK"),
    Column("input", "u32?", "number", "the file (inputs.input)"),
    Column("offset", "u64", "offset", "of the first byte in that file"),
    Column("name", "str", "name", "the file's path, or [stack], [heap], [vdso], [shadow stack]"),
    Column("made_seq", "u64", "seq", "when it was mapped"),
    Column("from_seq", "u64", "seq", "since when it stands so: as made, cut, copied, protected"),
    Column("to_seq", "u64?", "seq", "until when; null: the run's end"),
)


def build(run: Run) -> pl.DataFrame:
    """Columns of COLUMNS, by from_seq, then start."""
    names = [c.name for c in COLUMNS]
    rows = (tuple(getattr(region, name) for name in names) for region in Regions(run).all)
    return frame(COLUMNS, rows)
