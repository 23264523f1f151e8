"""Where a second execution diverged from the record: the difference and its context."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.hold import LATE, Difference
from shstk.replay.symbols import Symbols
from shstk.schemas.tables import TABLES

if TYPE_CHECKING:
    from shstk.replay.run import Run

# Table → the column that names what a row is: its first column with words.
_WHAT: Final = {
    table.name: next((c.name for c in table.columns if c.unit in ("kind", "name", "path")), "")
    for table in TABLES.values()
}


@dataclass(frozen=True)
class Event:
    """A row of a run, or the end of the event it describes. what: a word for it, such as the
    call's name. began: the row's own seq. place: its pc in words, if it has one."""

    table: str
    what: str | None
    seq: int
    began: int
    tid: int | None
    pc: int | None
    place: str | None


@dataclass(frozen=True)
class Disagreement:
    """The first event at which the two executions differ.

    at: table, seq, task and pc of the earlier of the two rows; table is `manifest` if all rows
    agree but the endings in the manifests do not. recorded, now: the rows, kinds as words; None if
    that side has no further row. columns: those that differ; `seq` alone if the rows are different
    events. agreed: the last event of the record at which both still agreed.
    """

    at: Event
    columns: tuple[str, ...]
    recorded: dict[str, Any] | None
    now: dict[str, Any] | None
    agreed: Event | None


def locate(run: Run, difference: Difference, tables: Iterable[str]) -> Disagreement:
    """tables: the tables that were compared."""
    symbols = Symbols(run)
    rows = [row for row in (difference.recorded, difference.now) if row is not None]
    first = min(rows, key=lambda row: int(row["seq"]))
    return Disagreement(
        _event(run, symbols, difference.table, first, difference.time),
        difference.columns,
        difference.recorded,
        difference.now,
        _last_before(run, symbols, difference.time, tables),
    )


def _event(run: Run, symbols: Symbols, table: str, row: dict[str, Any], seq: int) -> Event:
    pc = _pc(run, table, row)
    place = symbols.at(row.get("mm"), pc, row["seq"]) if pc is not None else None
    what = row.get(_WHAT.get(table, ""))
    return Event(table, what, seq, row["seq"], row.get("tid"), pc, str(place) if place else None)


def _pc(run: Run, table: str, row: dict[str, Any]) -> int | None:
    """The pc of the row, of its block, or of the call in which it happened."""
    if row.get("pc") is not None:
        return int(row["pc"])
    if table == "flow":
        found = run.scan("code").filter(pl.col("block") == row["block"])
    else:
        found = run.scan("syscalls").filter(pl.col("seq") == (row.get("during") or row["seq"]))
    pcs = found.select("pc").collect()["pc"].to_list()
    return pcs[0] if pcs else None


def _last_before(run: Run, symbols: Symbols, time: int, tables: Iterable[str]) -> Event | None:
    best: tuple[int, str, dict[str, Any]] | None = None
    for table in tables:
        for key in ("seq", "seq_end") if table in LATE else ("seq",):
            early = run.scan(table).filter(pl.col(key) < time)
            found = early.filter(pl.col(key) == pl.col(key).max()).collect()
            if len(found):
                row = found.row(-1, named=True)
                if best is None or row[key] > best[0]:
                    best = row[key], table, row
    return _event(run, symbols, best[1], best[2], best[0]) if best else None
