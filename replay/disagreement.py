"""Where a second execution left the record: the difference, and what surrounds it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.hold import LATE, Difference
from shstk.replay.symbols import Symbols

if TYPE_CHECKING:
    from shstk.replay.run import Run

# Columns that tell in a word what a row is.
_WHAT: Final = ("name", "api", "kind", "op", "why", "guest_path")


@dataclass(frozen=True)
class Event:
    """A row of a run, or the end of what it tells of. what: the call's name, or the row's kind.
    began: its own seq. place: its pc in words, if it has one."""

    table: str
    what: str | None
    seq: int
    began: int
    tid: int | None
    pc: int | None
    place: str | None


@dataclass(frozen=True)
class Disagreement:
    """The first event at which the two executions are not the same.

    at: table, seq, task and pc of the earlier of the two rows; table is `manifest` if all rows
    agree, but not what the manifest says of the end. recorded, now: the rows, kinds as words; None
    where that side has no further row. columns: those that differ, `seq` alone if the rows are not
    of one event. agreed: the last event of the record at which both were still the same.
    """

    at: Event
    columns: tuple[str, ...]
    recorded: dict[str, Any] | None
    now: dict[str, Any] | None
    agreed: Event | None


def locate(run: Run, difference: Difference, tables: Iterable[str]) -> Disagreement:
    """tables: those that were compared."""
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
    what = next((row[name] for name in _WHAT if row.get(name) is not None), None)
    return Event(table, what, seq, row["seq"], row.get("tid"), pc, str(place) if place else None)


def _pc(run: Run, table: str, row: dict[str, Any]) -> int | None:
    """The row's own; its block's; or that of the call in which it happened."""
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
