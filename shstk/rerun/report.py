"""The result of executing a run again, as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from shstk.replay.disagreement import Disagreement, Event
from shstk.rerun.compare import Replayed
from shstk.schemas import seq as positions
from shstk.schemas.tables import TABLES
from shstk.schemas.units import Unit, show

_EVENT: Final[dict[str, Unit]] = {"seq": "seq", "began": "seq", "pc": "address"}


def text(path: Path, result: Replayed) -> str:
    counts = ", ".join(f"{rows} {table}" for table, rows in result.agreed.items()) or "no rows"
    found = result.disagreement
    if found is None:
        end = "" if result.whole else ", as far as requested"
        lines = [f"{path} agrees: {result.icount} instructions executed again{end}"]
    else:
        lines = [f"{path} disagrees at {_event(found.at)}"]
        lines += [f"  {line}" for line in _difference(found)]
        last = _event(found.agreed) if found.agreed else "nothing"
        lines.append(f"last event that agrees: {last}")
    return "\n".join([*lines, f"agreeing rows: {counts}"]) + "\n"


def _event(event: Event) -> str:
    shown = f"{positions.show(event.seq)}: {event.table}"
    if event.what is not None:
        shown += f" {event.what}"
    if event.tid is not None:
        shown += f" of task {event.tid}"
    if event.pc is not None:
        shown += f" at {event.pc:#x}"
    if event.place:
        shown += f" in {event.place}"
    return shown if event.began == event.seq else f"{shown}, started {positions.show(event.began)}"


def _difference(found: Disagreement) -> list[str]:
    if found.columns == ("seq",):
        rows = [_row(row, _units(found)) for row in (found.recorded, found.now)]
        return [f"recorded: {rows[0]}", f"now:      {rows[1]}"]
    assert found.recorded is not None
    assert found.now is not None
    units = _units(found)
    width = max(len(column) for column in found.columns)
    lines = []
    for column in found.columns:
        was, now = found.recorded[column], found.now[column]
        if isinstance(was, bytes) and isinstance(now, bytes):
            was, now = _around(was, now)
        unit = units.get(column)
        shown = f"recorded {_value(unit, was)}, now {_value(unit, now)}"
        lines.append(f"{column:{width}}  {shown}")
    return lines


def _row(row: dict[str, Any] | None, units: Mapping[str, Unit]) -> str:
    """A row in one line."""
    if row is None:
        return "no further row"
    told = {name: value for name, value in row.items() if value is not None and name != "seq"}
    shown = " ".join(f"{name}={_value(units[name], value)}" for name, value in told.items())
    return f"{positions.show(row['seq'])} {shown}"


def _around(was: bytes, now: bytes) -> tuple[str, str]:
    """Both, at the first byte that differs."""
    pairs = zip(was, now, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(was), len(now)))
    start = max(at - 4, 0)

    def shown(data: bytes) -> str:
        return f"{data[start : at + 8]!r} ({len(data)} bytes)"

    return f"[{start}:] {shown(was)}", f"[{start}:] {shown(now)}"


def _value(unit: Unit | None, value: Any) -> str:
    if isinstance(value, bytes):
        return repr(value[:24]) + ("…" if len(value) > 24 else "")
    return "-" if value is None else str(show(unit, value))


def _units(found: Disagreement) -> Mapping[str, Unit]:
    """Of the columns of its rows; the manifest's fields have none."""
    table = TABLES.get(found.at.table)
    return table.units if table else {}


def as_json(result: Replayed) -> dict[str, Any]:
    found = result.disagreement
    return {
        "agreed": result.agreed,
        "icount": result.icount,
        "whole": result.whole,
        "disagreement": found and _disagreement_json(found),
        "plugins": [{"name": plugin.name, "summary": plugin.summary} for plugin in result.plugins],
    }


def _disagreement_json(found: Disagreement) -> dict[str, Any]:
    units = _units(found)
    recorded, now = (
        row and {name: show(units.get(name), value) for name, value in row.items()}
        for row in (found.recorded, found.now)
    )
    return {
        "at": _event_json(found.at),
        "columns": found.columns,
        "recorded": recorded,
        "now": now,
        "agreed": found.agreed and _event_json(found.agreed),
    }


def _event_json(event: Event) -> dict[str, Any]:
    told = dataclasses.asdict(event)
    return told | {name: show(unit, told[name]) for name, unit in _EVENT.items()}
