"""A window of a run: execute its instructions again and yield a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final

import polars as pl
import pyarrow as pa

from shstk.render import shown_rows, write_rows
from shstk.replay.run import Run
from shstk.replay.symbols import Symbols
from shstk.rerun.guest import directory, set_up
from shstk.schemas import seq as positions
from shstk.schemas.rows import to_batch
from shstk.schemas.tables import TABLES
from shstk.tracer.disassembly.disassemble import disassemble, register
from shstk.tracer.options import GuestOptions
from shstk.tracer.rerun.checkpoint_cache import CheckpointCache, cache_directory
from shstk.tracer.rerun.window import rows

_HEADER: Final = ("seq", "tid", "pc", "place", "instruction", "writes", "memory", "ssp")


def window(
    run: Run,
    first: int,
    last: int,
    *,
    table: str = "insn",
    kernel: str | None = None,
    tier: str = GuestOptions.tier,
    cache: Path | None = None,
    on_progress: Callable[[int], None] = lambda icount: None,
) -> Iterator[pl.DataFrame]:
    """The rows of `table` (insn, cfi) from seq `first` to `last`, recorded or not, in frames of
    about 100,000 rows; the last frame is empty. `place` (symbol+0x1a) follows pc, `instruction`
    follows word.

    kernel: under another revision. tier: as in GuestOptions. cache: the directory for checkpoints,
    if not the user's cache. Raises BadRun if the run was not recorded from a program.
    """
    manifest = (directory(run) / "manifest.json").read_bytes()
    kept = CheckpointCache(cache or cache_directory(), manifest, kernel)
    again = partial(set_up, run, kernel=kernel, tier=tier)
    until = run.manifest.icount if kernel is None else run.manifest.max_instructions
    symbols = Symbols(run)
    found = rows(again, kept, first, last, tables=(table,), until=until, on_progress=on_progress)
    for batch in chain((b for _, b in found), [to_batch(TABLES[table], [])]):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield _named(frame, symbols)


def _named(frame: pl.DataFrame, symbols: Symbols) -> pl.DataFrame:
    at = frame.columns.index("pc") + 1
    frame = frame.insert_column(at, symbols.places(frame["pc"], frame["mm"]).alias("place"))
    if "word" in frame.columns:
        spelled = map(disassemble, frame["word"], frame["pc"])
        at = frame.columns.index("word") + 1
        frame = frame.insert_column(at, pl.Series("instruction", spelled, pl.String))
    return frame


def write(frames: Iterator[pl.DataFrame], table: str, format: str, out: Any) -> None:
    """Frames of `window` as text, json, csv, or arrow (an IPC file; `out` is binary then)."""
    if format == "arrow":
        _write_arrow(frames, out)
        return
    first = next(frames)
    listing = format == "text" and "word" in first.columns
    tell = _listing if listing else partial(shown_rows, units=TABLES[table].units)
    shown = (row for frame in chain((first,), frames) for row in tell(frame))
    write_rows(_HEADER if listing else first.columns, shown, format, out)


def _write_arrow(frames: Iterator[pl.DataFrame], out: BinaryIO) -> None:
    tables = (frame.to_arrow(compat_level=pl.CompatLevel.oldest()) for frame in frames)
    first = next(tables)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(out, first.schema, options=options) as writer:
        for table in chain((first,), tables):
            writer.write_table(table.cast(first.schema))


def _listing(frame: pl.DataFrame) -> Iterator[list[str | None]]:
    """One line for each instruction, with the columns of _HEADER."""
    for row in frame.iter_rows(named=True):
        rd, at = row["rd"], row["mem_addr"]
        yield [
            positions.show(row["seq"]),
            str(row["tid"]),
            hex(row["pc"]),
            row["place"],
            row["instruction"],
            None if rd is None else f"{register(rd)}={row['rd_value']:#x}",
            None if at is None else f"[{at:#x}]{row['mem_size'] * 8}={row['mem_value']:#x}",
            hex(row["ssp"]),
        ]
