"""Frames as text, JSON or CSV, written the same way by every command.

Addresses and other u64 are hex, positions are icount.n, in all three: a number that JSON readers
would round, or that nobody can compare with a listing, helps nobody.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from shstk.schemas import seq as positions

if TYPE_CHECKING:
    import polars as pl

FORMATS: Final = ("text", "json", "csv")
_COUNTS: Final = frozenset({"nr", "icount", "rows", "checked"})  # u64 columns that count
_WIDTH_SAMPLE: Final = 1000  # rows that decide the column widths of a text table


def is_seq(name: str) -> bool:
    """Whether a column of this name holds positions (seq)."""
    return name in ("seq", "during", "evidence") or name.startswith("seq_") or name.endswith("_seq")


def shower(name: str, unsigned64: bool) -> Callable[[Any], Any]:
    """How a column's values are shown: a function from a Python value to a JSON-able one."""
    if is_seq(name):
        return lambda v: (
            [positions.show(i) for i in v] if isinstance(v, list) else positions.show(v)
        )
    if unsigned64 and name not in _COUNTS:
        return hex
    return lambda v: v.hex() if isinstance(v, bytes) else v


def shown_rows(frame: pl.DataFrame) -> Iterable[list[Any]]:
    """The frame's rows with every value as it is shown; nulls stay None."""
    import polars as pl  # `shstk kernels` shows rows, and need not wait for it

    showers = [
        shower(name, dtype in (pl.UInt64, pl.List(pl.UInt64)))
        for name, dtype in frame.schema.items()
    ]
    for row in frame.iter_rows():
        yield [None if v is None else show(v) for show, v in zip(showers, row, strict=True)]


def write_frame(frame: pl.DataFrame, format: str, out: TextIO | None = None) -> None:
    """Write a frame to `out` (standard output by default) in one of FORMATS."""
    write_rows(frame.columns, shown_rows(frame), format, out)


def write_rows(
    header: Sequence[str], rows: Iterable[Sequence[Any]], format: str, out: TextIO | None = None
) -> None:
    """Write rows that are JSON-able already in one of FORMATS."""
    out = out or sys.stdout
    if format == "json":
        write_json([dict(zip(header, row, strict=True)) for row in rows], out)
    elif format == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    else:
        write_table(header, rows, out)


def write_json(value: Any, out: TextIO | None = None) -> None:
    json.dump(value, out or sys.stdout, indent=1, ensure_ascii=False)
    (out or sys.stdout).write("\n")


def write_table(header: Sequence[str], rows: Iterable[Sequence[Any]], out: TextIO) -> None:
    """Aligned columns, two spaces apart; widths from the first rows, so that long tables stream."""
    sample: list[list[str]] = []
    rest = iter(rows)
    for row in rest:
        sample.append([_cell(v) for v in row])
        if len(sample) == _WIDTH_SAMPLE:
            break
    widths = [max(map(len, column)) for column in zip(header, *sample, strict=True)]

    def line(cells: Sequence[str]) -> None:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        out.write("  ".join(padded).rstrip() + "\n")

    line(header)
    for cells in sample:
        line(cells)
    for row in rest:
        line([_cell(v) for v in row])


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value).replace("\n", "\\n")
