"""RUN.partial while recording, RUN when sealed.

    RUN.partial/   <table>.arrows (IPC streams), files/<sha256>, begun.json (the manifest as far as
                   it is known), progress.jsonl (rows of each table that are safe, up to which seq)
    RUN/           <table>.parquet (those that have rows), files/<sha256> (if the guest saw any),
                   manifest.json

Sealing writes into RUN.partial, the manifest last, and renames. Whatever stops it before that, a
full disk or kill -9, leaves the streams, and `recover` seals what is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.content import ContentHash
from schemas.errors import BadRun, CannotWrite
from schemas.manifest import NAME as MANIFEST
from schemas.manifest import U64, Manifest, TableEntry
from schemas.rows import schema
from schemas.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX: Final = ".partial"
BEGUN: Final = "begun.json"
PROGRESS: Final = "progress.jsonl"
FILES: Final = "files"

ROW_GROUP: Final = 2**19  # rows
# The executor appends these in seq order; rows of the others may come late (a call's at its end).
_IN_ORDER: Final = frozenset({"cfi", "flow", "code", "insn"})
_ENCODED: Final = frozenset({"u8", "u32", "u64", "i32", "i64"})


_TOO_EARLY: Final = "it was cut off before anything was safe: remove it and record again"


class Partial:
    """A run directory that is not sealed yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._streams: dict[str, Any] = {}

    @classmethod
    def create(cls, run: Path, force: bool) -> Partial:
        """RUN.partial, new and empty. Raises CannotWrite if RUN or it exists, unless forced."""
        _check_target(run, force)
        path = run.with_name(run.name + SUFFIX)
        if path.exists():
            if not force or not (path / FILES).is_dir():
                raise CannotWrite(
                    f"{path} exists already: a recording that was cut off, or one that still runs",
                    f"salvage it with `shstk recover {path}`, or overwrite it with --force",
                )
            _remove(path)
        with _writing(path):
            (path / FILES).mkdir(parents=True)
        return cls(path)

    @property
    def run(self) -> Path:
        return self.path.with_name(self.path.name.removesuffix(SUFFIX))

    @property
    def _kept(self) -> str:
        return f"what was recorded is kept: make room, then `shstk recover {self.path}`"

    def keep(self, manifest: Manifest) -> None:
        with _writing(self.path, self._kept):
            _write(self.path / BEGUN, manifest.to_json().encode())

    def add_file(self, data: bytes) -> str:
        """Store a file the guest saw; its sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path / FILES / sha256
        if not target.exists():
            with _writing(self.path, self._kept):
                _write(target, data, sync=False)
        return sha256

    def append(self, table: str, batch: pa.RecordBatch) -> None:
        import pyarrow as pa

        with _writing(self.path, self._kept):
            # lz4 costs half the time of zstd here, and these files live only until they are sealed.
            if table not in self._streams:
                self._streams[table] = pa.ipc.new_stream(
                    str(self.path / f"{table}.arrows"),
                    schema(table),
                    options=pa.ipc.IpcWriteOptions(compression="lz4"),
                )
            self._streams[table].write_batch(batch)

    def mark(self, seq: int, rows: dict[str, int], final: bool = False) -> None:
        """All rows up to seq are in the streams, so many in each; final: of the whole run."""
        line = json.dumps({"seq": hex(seq), "rows": rows, "final": final})
        with _writing(self.path, self._kept), (self.path / PROGRESS).open("a") as file:
            file.write(line + "\n")

    def close_streams(self) -> None:
        with _writing(self.path, self._kept):
            for stream in self._streams.values():
                stream.close()

    def discard(self) -> None:
        _remove(self.path)

    def seal(self, manifest: Manifest, rows: dict[str, int], force: bool = False) -> Path:
        """Make tables of the first `rows` rows of each stream, and of that the run."""
        tables = {
            name: _sorted_stream(self.path / f"{name}.arrows", rows[name], name in _IN_ORDER)
            for name in TABLES
            if rows.get(name)
        }
        return self.publish(manifest, tables, force)

    def publish(
        self, manifest: Manifest, tables: Mapping[str, Iterator[pa.RecordBatch]], force: bool
    ) -> Path:
        """Write the tables, the manifest, and give the directory its name."""
        _check_target(self.run, force)
        with _writing(self.path, self._kept):
            with ThreadPoolExecutor(2) as pool:
                entries = pool.map(lambda name: _write_table(name, tables[name], self.path), tables)
                sealed = dict(zip(tables, entries, strict=True))
            _write(self.path / MANIFEST, replace(manifest, tables=sealed).to_json().encode())
            return self.finish(force)

    def finish(self, force: bool = False) -> Path:
        """Drop what only recording needed and rename; the manifest is written already."""
        for leftover in (
            *self.path.rglob("*.new"),
            *self.path.glob("*.arrows"),
            self.path / BEGUN,
            self.path / PROGRESS,
        ):
            leftover.unlink(missing_ok=True)
        files = self.path / FILES
        if files.is_dir() and not any(files.iterdir()):
            files.rmdir()
        elif files.is_dir():
            for path in (*files.iterdir(), files):
                _sync(path)
        _sync(self.path)
        _check_target(self.run, force)
        if self.run.exists():
            _remove(self.run)
        self.path.rename(self.run)
        _sync(self.run.parent)
        return self.run


def write(
    run: Path,
    manifest: Manifest,
    tables: Mapping[str, pa.Table],
    files: Iterable[bytes] = (),
    force: bool = False,
) -> Path:
    """A sealed run of tables in memory, rows in seq order. files: the bytes of the inputs.

    Raises CannotWrite.
    """
    partial = Partial.create(run, force)
    try:
        for data in files:
            partial.add_file(data)
        filled = {
            name: iter(tables[name].to_batches())
            for name in TABLES
            if name in tables and tables[name].num_rows
        }
        return partial.publish(manifest, filled, force)
    except CannotWrite:
        shutil.rmtree(partial.path, ignore_errors=True)
        raise


def recover(directory: Path) -> Path:
    """Seal what is whole of a recording that was cut off; `directory` is RUN.partial (or RUN).

    The manifest says ending `recovered` and up to which seq every table is complete, unless the
    recording had ended by itself and only sealing was cut off. What had not ended by then (calls,
    clones, address spaces) has no row. Raises BadRun, CannotWrite.
    """
    path = directory if directory.name.endswith(SUFFIX) else Path(f"{directory}{SUFFIX}")
    if not path.is_dir():
        if (directory / MANIFEST).exists():
            raise BadRun(f"{directory} is whole already", f"there is no {path}")
        raise BadRun(f"{path}: no such directory", "recording leaves RUN.partial directories")
    partial = Partial(path)
    if (path / MANIFEST).exists():
        with _writing(path):
            return partial.finish()
    try:
        begun = Manifest.from_json((path / BEGUN).read_text(), str(path / BEGUN))
        marks = [json.loads(line) for line in _whole_lines(path / PROGRESS)]
    except (OSError, ValueError) as e:
        raise BadRun(f"{path}: nothing to recover: {e}", _TOO_EARLY) from e
    found = {name: _whole_rows(path / f"{name}.arrows") for name in TABLES}
    for mark in reversed(marks):
        if all(found[name] >= rows for name, rows in mark["rows"].items()):
            break
    else:
        raise BadRun(f"{path}: nothing to recover", _TOO_EARLY)
    if not mark["final"]:
        begun = replace(begun, ending="recovered", recovered_up_to=U64(int(mark["seq"], 16)))
    return partial.seal(begun, mark["rows"])


def read_stream(path: Path, rows: int) -> Iterator[pa.RecordBatch]:
    """The first `rows` rows of an IPC stream, batch by batch."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
        while rows:
            batch = reader.read_next_batch()[:rows]
            rows -= batch.num_rows
            yield batch


def _whole_rows(path: Path) -> int:
    """Rows of the whole batches of an IPC stream that may be torn or absent."""
    import pyarrow as pa

    rows = 0
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
            while True:
                rows += reader.read_next_batch().num_rows
    except (OSError, StopIteration, pa.ArrowInvalid):
        return rows


def _whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _sorted_stream(path: Path, rows: int, in_order: bool) -> Iterator[pa.RecordBatch]:
    if in_order:
        return read_stream(path, rows)
    return _in_order(lambda: read_stream(path, rows))


def _in_order(batches: Callable[[], Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """The rows sorted by seq, in memory only those that came after a row of a higher seq."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def split() -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch, int]]:
        top = 0
        for batch in batches():
            highest = pc.cumulative_max(batch["seq"], start=pa.scalar(top, pa.uint64()))
            top = highest[-1].as_py()
            timely = pc.equal(batch["seq"], highest)
            yield batch.filter(timely), batch.filter(pc.invert(timely)), top

    late = [late for _, late, _ in split() if late.num_rows]
    waiting = pa.Table.from_batches(late).sort_by("seq") if late else None
    for timely, _, top in split():
        if waiting is None:
            yield timely
            continue
        due = pc.sum(pc.less_equal(waiting["seq"], top)).as_py() or 0
        merged = pa.concat_tables([pa.Table.from_batches([timely]), waiting.slice(0, due)])
        waiting = waiting.slice(due)
        yield from merged.sort_by("seq").combine_chunks().to_batches()


def _write_table(name: str, batches: Iterator[pa.RecordBatch], directory: Path) -> TableEntry:
    """<name>.parquet: the same bytes for the same rows, however they were batched."""
    import pyarrow.parquet as pq

    table = TABLES[name]
    path = directory / f"{name}.parquet"
    content = ContentHash(table)
    rows, first, last = 0, None, 0
    with pq.ParquetWriter(
        path,
        schema(name),
        compression="zstd",
        use_dictionary=[c.name for c in table.columns if c.base in ("kind", "str")],
        column_encoding={
            c.name: "DELTA_BINARY_PACKED" for c in table.columns if c.base in _ENCODED
        },
        sorting_columns=[pq.SortingColumn(0)],
        write_statistics=True,
    ) as writer:
        for group in _row_groups(batches):
            content.update(group)
            assert _sorted(group["seq"], last), f"{name} is not in seq order"
            writer.write_batch(group, row_group_size=ROW_GROUP)
            seqs = group["seq"]
            first = seqs[0].as_py() if first is None else first
            last = seqs[-1].as_py()
            rows += group.num_rows
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return TableEntry(
        rows=rows,
        bytes=path.stat().st_size,
        sha256=sha256,
        content_sha256=content.hexdigest(),
        first_seq=U64(first or 0),
        last_seq=U64(last),
    )


def _row_groups(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows in batches of exactly ROW_GROUP, but for the last."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while batch.num_rows:
            part = batch[: ROW_GROUP - count]
            batch = batch[part.num_rows :]
            held.append(part)
            count += part.num_rows
            if count == ROW_GROUP:
                yield pa.concat_batches(held)
                held, count = [], 0
    if held:
        yield pa.concat_batches(held)


def _sorted(seqs: pa.Array, before: int) -> bool:
    import pyarrow.compute as pc

    rises = pc.all(pc.less_equal(seqs[:-1], seqs[1:])).as_py()
    return rises is not False and seqs[0].as_py() >= before


def _check_target(run: Path, force: bool) -> None:
    """Raises CannotWrite if something is there that may not be overwritten."""
    if not run.name:
        raise CannotWrite(f"{run}: not a name for a run directory")
    if not os.path.lexists(run):
        return
    if not force:
        raise CannotWrite(f"{run} exists already", "choose another with -o, or use --force")
    if not (run / MANIFEST).is_file() and not (run.is_dir() and not any(run.iterdir())):
        raise CannotWrite(f"{run} exists and is no run", "--force overwrites runs only")


def _remove(directory: Path) -> None:
    with _writing(directory):
        shutil.rmtree(directory)


def _write(path: Path, data: bytes, sync: bool = True) -> None:
    """The whole file or nothing of it."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    if sync:
        _sync(new)
    new.replace(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _writing(path: Path, hint: str = "") -> Iterator[None]:
    """OSError as CannotWrite."""
    try:
        yield
    except OSError as e:
        raise CannotWrite(f"cannot write to {path}: {e.strerror or e}", hint) from e
