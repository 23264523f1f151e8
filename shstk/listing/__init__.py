"""Runs written by hand: `shstk build LISTING -o RUN`. docs/listing.md describes the notation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from shstk.listing.builder import Builder
from shstk.listing.syntax import Listing, read
from shstk.schemas.errors import BadListing
from shstk.schemas.rows import to_batch
from shstk.schemas.tables import TABLES

if TYPE_CHECKING:
    from shstk.replay.run import Run


def build_run(text: str, run: str | None = None, where: str = "listing") -> Run:
    """The run of a listing, in memory. run: its name (optional if the file has only one). where:
    the file's name, for errors. Raises BadListing."""
    from shstk.replay.run import Run

    built = Builder(_choose(text, run, where))
    return Run.from_tables(built.manifest(), _tables(built), built.files)


def build_tables(text: str, run: str | None = None, where: str = "listing") -> dict[str, pa.Table]:
    """The tables of a listing that have rows. Raises BadListing."""
    return _tables(Builder(_choose(text, run, where)))


def build(listing: Path, out: Path, run: str | None = None, force: bool = False) -> Path:
    """Write a listing's run into the directory `out`. Raises BadListing, CannotWrite."""
    from shstk.tracer.recording.rundir import write

    try:
        text = listing.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise BadListing(f"{listing}: {getattr(e, 'strerror', None) or e}") from e
    built = Builder(_choose(text, run, str(listing)))
    return write(out, built.manifest(), _tables(built), built.files, force)


def names(text: str, where: str = "listing") -> list[str]:
    """The names of the runs in a listing; one empty name if it has a single unnamed run."""
    return list(read(text, where))


def _choose(text: str, run: str | None, where: str) -> Listing:
    runs = read(text, where)
    if run is None and len(runs) == 1:
        return next(iter(runs.values()))
    if run in runs:
        return runs[str(run)]
    known = ", ".join(filter(None, runs)) or "one without a name"
    what = "it has several runs" if run is None else f"no run {run!r}"
    raise BadListing(f"{where}: {what}", f"it has: {known}; choose with --run NAME")


def _tables(built: Builder) -> dict[str, pa.Table]:
    return {
        name: pa.Table.from_batches([to_batch(TABLES[name], rows)])
        for name, rows in built.rows.items()
    }
