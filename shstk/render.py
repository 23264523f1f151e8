"""Write frames as text, JSON or CSV. Every command writes values by their columns' units."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TextIO

from shstk.schemas.units import Unit, show

if TYPE_CHECKING:
    import polars as pl

FORMATS: Final = ("text", "json", "csv")
_FORMULA: Final = re.compile(r"[=@+\t\r]|-.*[(|!]")
_WIDTH_SAMPLE: Final = 1000  # rows that decide the column widths of a text table


def shown_rows(frame: pl.DataFrame, units: Mapping[str, Unit]) -> Iterable[list[Any]]:
    """The frame's rows with every value as text; nulls stay None.

    A u64 without a unit is written in hex, because most such values are computed from addresses.
    """
    import polars as pl  # `shstk kernels` shows rows without it

    showers = [
        partial(show, units.get(name, "value" if dtype == pl.UInt64 else None))
        for name, dtype in frame.schema.items()
    ]
    for row in frame.iter_rows():
        yield [shower(value) for shower, value in zip(showers, row, strict=True)]


def write_frame(
    frame: pl.DataFrame, units: Mapping[str, Unit], format: str, out: TextIO | None = None
) -> None:
    """Write a frame to `out` (standard output by default) in one of FORMATS."""
    write_rows(frame.columns, shown_rows(frame, units), format, out)


def write_rows(
    header: Sequence[str], rows: Iterable[Sequence[Any]], format: str, out: TextIO | None = None
) -> None:
    """Write rows of JSON values in one of FORMATS."""
    out = out or sys.stdout
    if format == "json":
        write_json([dict(zip(header, row, strict=True)) for row in rows], out)
    elif format == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(map(_no_formula, row) for row in rows)
    else:
        write_table(header, rows, out)


def _no_formula(value: Any) -> Any:
    """A spreadsheet executes a text that begins like one; a guest may have chosen it."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def write_json(value: Any, out: TextIO | None = None) -> None:
    json.dump(value, out or sys.stdout, indent=1, ensure_ascii=False)
    (out or sys.stdout).write("\n")


def write_table(header: Sequence[str], rows: Iterable[Sequence[Any]], out: TextIO) -> None:
    """Aligned columns, two spaces apart; the first rows decide the widths, so tables can stream."""
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
