"""What came of executing a run again, as text and as JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from shstk.render import is_seq
from shstk.replay.disagreement import Disagreement, Event
from shstk.rerun.compare import Replayed
from shstk.schemas import seq as positions


def text(path: Path, result: Replayed) -> str:
    counts = ", ".join(f"{rows} {table}" for table, rows in result.agreed.items()) or "no rows"
    found = result.disagreement
    if found is None:
        end = "" if result.whole else ", as far as it was to go"
        lines = [f"{path} agrees: {result.icount} instructions executed again{end}"]
    else:
        lines = [f"{path} disagrees at {_event(found.at)}"]
        lines += [f"  {line}" for line in _difference(found)]
        last = _event(found.agreed) if found.agreed else "nothing"
        lines.append(f"the last event that is the same: {last}")
    return "\n".join([*lines, f"the same: {counts}"]) + "\n"


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
    return shown if event.began == event.seq else f"{shown}, begun at {positions.show(event.began)}"


def _difference(found: Disagreement) -> list[str]:
    if found.columns == ("seq",):
        return [f"recorded: {_row(found.recorded)}", f"now:      {_row(found.now)}"]
    assert found.recorded is not None
    assert found.now is not None
    width = max(len(column) for column in found.columns)
    lines = []
    for column in found.columns:
        was, now = found.recorded[column], found.now[column]
        if isinstance(was, bytes) and isinstance(now, bytes):
            was, now = _around(was, now)
        shown = f"recorded {_value(column, was)}, now {_value(column, now)}"
        lines.append(f"{column:{width}}  {shown}")
    return lines


def _row(row: dict[str, Any] | None) -> str:
    """What tells a row, in one line."""
    if row is None:
        return "no more of these"
    told = {name: value for name, value in row.items() if value is not None and name != "seq"}
    shown = " ".join(f"{name}={_value(name, value)}" for name, value in told.items())
    return f"{positions.show(row['seq'])} {shown}"


def _around(was: bytes, now: bytes) -> tuple[str, str]:
    """Both where they begin to differ."""
    pairs = zip(was, now, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(was), len(now)))
    start = max(at - 4, 0)

    def shown(data: bytes) -> str:
        return f"{data[start : at + 8]!r} ({len(data)} bytes)"

    return f"[{start}:] {shown(was)}", f"[{start}:] {shown(now)}"


def _value(column: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if is_seq(column):
            return positions.show(value)
        return hex(value) if abs(value) >= 4096 and column != "icount" else str(value)
    if isinstance(value, bytes):
        return repr(value[:24]) + ("…" if len(value) > 24 else "")
    return "-" if value is None else str(value)


def as_json(result: Replayed) -> dict[str, Any]:
    def shown(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shown(key, item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return [shown(name, item) for item in value]
        if isinstance(value, bytes):
            return value.hex()
        if isinstance(value, int) and not isinstance(value, bool):
            if is_seq(name):
                return positions.show(value)
            return hex(value) if value >= 2**53 or name in ("pc", "addr") else value
        return value

    raw = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    raw["disagreement"] = result.disagreement and dataclasses.asdict(result.disagreement)
    answer: dict[str, Any] = shown("", raw)
    return answer
