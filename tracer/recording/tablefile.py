"""The Parquet file of a table, written while its rows arrive.

    <table>.<n>.group    row group n: ROW_GROUP rows or GROUP_BYTES, a complete Parquet file
    <table>.<n>.arrows   rows of the group that is not full yet, as an IPC stream

Both survive kill -9. Sealing writes the last, short group and joins the groups without decoding
them, so the bytes of a table depend only on its rows and not on the batches they came in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from shstk.schemas.arrow import (
    CumulativeOptions,
    ParquetFile,
    SortingColumn,
    apply,
    cast,
    fill_null,
    write_parquet,
)
from shstk.schemas.content import ContentHash
from shstk.schemas.manifest import U64, TableEntry
from shstk.schemas.rows import schema
from shstk.schemas.tables import TABLES, Table
from shstk.tracer.recording.parquet_join import join

ROW_GROUP: Final = 2**19  # rows
GROUP_BYTES: Final = 2**26  # of strings; a row that alone has more is a group of its own
GROUP: Final = ".group"
STREAM: Final = ".arrows"

# Measured on recorded runs (write time and size per row): BYTE_STREAM_SPLIT before zstd beats PLAIN
# in both, and deltas in time. Only for seq are deltas half as large.
_ENCODINGS: Final = {
    "u8": "PLAIN",
    "u32": "BYTE_STREAM_SPLIT",
    "u64": "BYTE_STREAM_SPLIT",
    "i32": "BYTE_STREAM_SPLIT",
    "i64": "BYTE_STREAM_SPLIT",
}
_PAGE: Final = 2**24  # bytes: one page per column and group, because each page is a zstd frame


class TableFile:
    """Takes rows in seq order, batch by batch; `directory` gets the files. hashed: for `seal`."""

    def __init__(self, name: str, directory: Path, hashed: bool = True) -> None:
        self._name = name
        self._directory = directory
        self._content = ContentHash(TABLES[name]) if hashed else None
        self._groups: list[Path] = []
        self._rows = 0
        self._first = self._last = 0  # seqs
        self._held: list[pa.RecordBatch] = []  # rows of the group that is not full yet
        self._held_rows = 0
        self._held_bytes = 0  # of strings
        self._long = [c.name for c in TABLES[name].columns if c.base in ("str", "bytes")]
        self.size = 0  # bytes of the groups
        self._saved = 0  # number of batches of `_held` in the stream
        self._stream: Any = None

    def append(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            part = batch[: self._room(batch)]
            batch = batch[part.num_rows :]
            self._held.append(part)
            self._held_rows += part.num_rows
            if batch.num_rows or self._held_rows == ROW_GROUP or self._held_bytes >= GROUP_BYTES:
                self._write_group()

    def _room(self, batch: pa.RecordBatch) -> int:
        """How many rows of a batch the group still takes. Their strings are counted."""
        rows: int = min(batch.num_rows, ROW_GROUP - self._held_rows)
        if not self._long:
            return rows
        sizes = [
            cast(fill_null(apply("binary_length", batch[name][:rows]), 0), pa.int64())
            for name in self._long
        ]
        each = reduce(partial(apply, "add"), sizes)
        after = apply("cumulative_sum", each, options=CumulativeOptions())
        before = apply("subtract", after, each)
        fits = apply("less", before, GROUP_BYTES - self._held_bytes)
        fit = int(apply("sum", fits).as_py())  # at least one
        self._held_bytes += after[fit - 1].as_py()
        return fit

    def save(self) -> None:
        """Flush the appended rows to disk, so that they survive kill -9."""
        if self._saved == len(self._held):
            return
        if self._stream is None:
            self._stream = new_stream(self._stream_path, self._name)
        for batch in self._held[self._saved :]:
            self._stream.write_batch(batch)
        self._saved = len(self._held)

    def seal(self) -> TableEntry:
        """Write the complete <table>.parquet. At least one row."""
        assert self._content is not None
        path = self._write()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return TableEntry(
            rows=self._rows,
            bytes=path.stat().st_size,
            sha256=sha256,
            content_sha256=self._content.hexdigest(),
            first_seq=U64(self._first),
            last_seq=U64(self._last),
        )

    def finish(self) -> None:
        """Write <table>.parquet, if there are rows, and remove the other files."""
        if self._held or self._groups:
            self._write()
        for group in self._groups:
            group.unlink()

    def _write(self) -> Path:
        if self._held:
            self._write_group()
        path = self._directory / f"{self._name}.parquet"
        join(self._groups, path)
        return path

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    @property
    def _stream_path(self) -> Path:
        return self._directory / f"{self._name}.{len(self._groups)}{STREAM}"

    def _write_group(self) -> None:
        for batch in self._held:
            seqs = batch["seq"]
            assert _sorted(seqs, self._last), f"{self._name} is not in seq order"
            if not self._rows:
                self._first = seqs[0].as_py()
            self._last = seqs[-1].as_py()
            self._rows += batch.num_rows
        path = self._directory / f"{self._name}.{len(self._groups)}{GROUP}"
        with ThreadPoolExecutor(1) as pool:  # both take similar time and release the GIL
            hashed = pool.submit(self._hash, self._held)
            _write_parquet(pa.Table.from_batches(self._held), TABLES[self._name], path)
        hashed.result()
        self.close()
        self._stream_path.unlink(missing_ok=True)
        self._groups.append(path)
        self.size += path.stat().st_size
        self._held, self._held_rows, self._held_bytes, self._saved = [], 0, 0, 0

    def _hash(self, batches: list[pa.RecordBatch]) -> None:
        if self._content is not None:
            for batch in batches:
                self._content.update(batch)


def new_stream(path: Path, table: str) -> pa.RecordBatchStreamWriter:
    """lz4 takes half the time of zstd here, and streams exist only until the run is sealed."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    return pa.ipc.new_stream(str(path), schema(table), options=options)


def read_stream(path: Path) -> Iterator[pa.RecordBatch]:
    """The complete batches of an IPC stream that may be truncated or missing."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            yield from reader
    except (OSError, pa.ArrowInvalid):
        return


def read_saved(name: str, directory: Path) -> Iterator[pa.RecordBatch]:
    """The rows that a TableFile of `directory` has saved, and possibly some later ones."""
    group = 0
    while True:
        path = directory / f"{name}.{group}{GROUP}"
        try:
            with ParquetFile(path) as file:
                found = file.read()
        except (OSError, pa.ArrowException):
            break
        yield from found.to_batches()
        group += 1
    yield from read_stream(directory / f"{name}.{group}{STREAM}")


def _write_parquet(rows: pa.Table, table: Table, path: Path) -> None:
    if any(c.base in ("str", "bytes") for c in table.columns):
        rows = rows.combine_chunks()  # strings may exceed a page, and are then split at chunks
    new = path.with_name(path.name + ".new")
    write_parquet(
        rows,
        new,
        ROW_GROUP,
        compression="zstd",
        use_dictionary=[c.name for c in table.columns if c.base in ("kind", "str")],
        column_encoding={
            c.name: _encoding(c.name, c.base) for c in table.columns if c.base in _ENCODINGS
        },
        sorting_columns=[SortingColumn(0)],
        write_batch_size=2**16,
        max_rows_per_page=ROW_GROUP,
        data_page_size=_PAGE,
    )
    new.replace(path)


def _encoding(column: str, base: str) -> str:
    return "DELTA_BINARY_PACKED" if column == "seq" else _ENCODINGS[base]


def _sorted(seqs: pa.Array, before: int) -> bool:
    rises = apply("all", apply("less_equal", seqs[:-1], seqs[1:])).as_py()
    return rises is not False and seqs[0].as_py() >= before
