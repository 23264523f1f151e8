"""Export a run's tables as files for other programs."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from shstk.render import shown_rows
from shstk.schemas.errors import BadRun, UsageError
from shstk.writing import whole_directory

if TYPE_CHECKING:
    from shstk.replay.run import Run


def export(run: Run, out: Path, format: str = "arrow", force: bool = False) -> list[Path]:
    """Write every table of the run, empty ones too, as <out>/<table>.<format>.

    arrow: IPC files; parquet; csv: as `shstk query --format csv` shows them (addresses 0x…, seqs
    icount.n, bytes in hex). With force, a directory that an export wrote is replaced. Raises
    CannotWrite, and BadRun if a table can't be made again.
    """
    if format not in _WRITERS:
        raise UsageError(f"no format {format!r}", f"formats: {' '.join(_WRITERS)}")
    run.prepare(run.names)
    for name in run.names:
        if why := run.missing(name):
            raise BadRun(f"{run.name} has no {name} table: {why}")
    names = {f"{name}.{format}" for name in run.names for format in _WRITERS}
    with whole_directory(out, force, lambda name: name in names) as directory:
        for name in run.names:
            _WRITERS[format](run, name, directory / f"{name}.{format}")
    return [out / f"{name}.{format}" for name in run.names]


def _arrow(run: Run, name: str, file: Path) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(str(file), run.schema(name), options=options) as writer:
        for batch in run.batches(name):
            writer.write_batch(batch)


def _parquet(run: Run, name: str, file: Path) -> None:
    if source := run.source(name):
        shutil.copyfile(source, file)
    else:
        pq.write_table(run.arrow(name), file)


def _csv(run: Run, name: str, file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(run.schema(name).names)
        units = run.units(name)
        for batch in run.batches(name):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            writer.writerows(shown_rows(frame, units))


_WRITERS: Final[dict[str, Callable[[Run, str, Path], None]]] = {
    "arrow": _arrow,
    "parquet": _parquet,
    "csv": _csv,
}
