"""Faults with their explanations, one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.decode import signal_name
from shstk.replay.views.view import frame
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.explain.model import Explanation
    from shstk.replay.run import Run

COLUMNS: Final = (
    Column("seq", "u64", "seq", "position of the fault"),
    Column("tid", "u32", "pid", "the task"),
    Column("mm", "u32?", "number", "its address space"),
    Column(
        "kind",
        "str",
        "kind",
        "mismatch, no word, ordinary page, misaligned, store, off, landing pad, bad sigreturn,"
        " exec, no delivery, fetch, illegal, other",
    ),
    Column("signal", "str", "name", "the signal it raised"),
    Column("fatal", "bool", "truth", "whether it ended the task"),
    Column("pc", "u64?", "address", "address of the instruction; null if the kernel found it"),
    Column("place", "str?", "name", "the same in words: symbol+offset"),
    Column("file", "str?", "path", "its source file; null without DWARF"),
    Column("line", "u32?", "number", "its line"),
    Column("address", "u64?", "address", "the data address"),
    Column("expected", "u64?", "value", "mismatch: the word on the shadow stack"),
    Column("found", "u64?", "value", "mismatch: the register"),
    Column("written_by", "u32?", "pid", "the task that wrote the word"),
    Column("written_seq", "u64?", "seq", "when"),
    Column("written_in", "str?", "name", "where: symbol+offset; null if the kernel wrote it"),
    Column("cause", "str", "kind", "the likely cause, as a name"),
    Column("sentence", "str", "text", "the likely cause, as a sentence"),
    Column("rule", "str?", "name", "the rule whose violation explains the fault"),
)


def build(run: Run) -> pl.DataFrame:
    """Columns of COLUMNS, by seq."""
    from shstk.replay.explain import chosen, explanations  # what explains is loaded for it only

    found = chosen(run, None, every=True)
    return frame(COLUMNS, map(_row, explanations(run, found, brief=True)))


def _row(e: Explanation) -> tuple[Any, ...]:
    fault, place, writer = e.fault, e.place, e.writer
    return (
        fault.seq,
        fault.tid,
        fault.mm,
        e.kind,
        signal_name(fault.signo),
        fault.fatal,
        fault.pc,
        place.name if place else None,
        place.file if place else None,
        place.line if place else None,
        fault.address,
        e.expected.value if e.expected else None,
        e.found.value if e.found else None,
        writer.tid if writer else None,
        writer.seq if writer else None,
        writer.place.name if writer and writer.place else None,
        e.verdict.pattern,
        e.verdict.sentence,
        e.verdict.rule,
    )
