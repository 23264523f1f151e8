"""Runs that were changed so that no hash tells, and where two runs differ, by brute force."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from shstk.replay.run import Run
from shstk.schemas.rows import schema, to_batch
from shstk.schemas.tables import TABLES
from shstk.tracer.record import RecordOptions, record
from shstk.tracer.recording.rundir import write

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "fixtures" / "bin"
PTHREAD = ROOT / "shstk" / "guests" / "pthread.elf"

Row = dict[str, Any]


def recorded(out: Path, program: Path, **options: Any) -> Run:
    return Run.open(record(RecordOptions(program=str(program), out=out, **options)).path)


def rows(run: Run, table: str) -> list[Row]:
    return run.arrow(table).to_pylist()


def tables(run: Run) -> dict[str, pa.Table]:
    return {name: run.arrow(name) for name in TABLES}


def files(run: Run) -> list[bytes]:
    assert run.path is not None
    return [path.read_bytes() for path in sorted((run.path / "files").iterdir())]


def with_rows(run: Run, table: str, changed: Iterable[Row]) -> dict[str, pa.Table]:
    batch = to_batch(TABLES[table], list(changed))
    return {**tables(run), table: pa.Table.from_batches([batch], schema(table))}


def rewritten(
    run: Run,
    out: Path,
    changed: dict[str, pa.Table],
    contents: Iterable[bytes] = (),
    **manifest: Any,
) -> Run:
    """A run directory whose hashes all fit. contents: files instead of the run's."""
    made = replace(run.manifest, **manifest)
    return Run.open(write(out, made, changed, list(contents) or files(run)))


def edited(run: Run, out: Path, table: str, at: int, **columns: Any) -> Run:
    """With other values in row `at` of a table."""
    changed = rows(run, table)
    changed[at].update(columns)
    return rewritten(run, out, with_rows(run, table, changed))


# What a late row tells only when it is written.
_EXITS = {
    "syscalls": {"seq_end", "ret", "outcome", "ssp_exit", "state_hash"},
    "clones": {"seq_end", "child_tid", "ret"},
    "mms": {"seq_end"},
}


def first_difference(one: Run, other: Run) -> int | None:
    """The time of the first event that is not the same in both: slow, and plain to see."""
    for a, b in zip(_events(one), _events(other), strict=False):
        if a != b:
            return min(a[0], b[0])
    shorter, longer = sorted((_events(one), _events(other)), key=len)
    return longer[len(shorter)][0] if len(longer) > len(shorter) else None


def _events(run: Run) -> list[tuple[int, str, str]]:
    found = []
    for name in TABLES:
        exits = _EXITS.get(name, set())
        for row in rows(run, name):
            entry = {column: value for column, value in row.items() if column not in exits}
            found.append((row["seq"], name, repr(entry)))
            if exits and row["seq_end"] is not None:
                found.append((row["seq_end"], name, repr(row)))
    return sorted(found, key=lambda event: event[0])
