"""The run directory: RUN.partial while recording, RUN when sealed.

    RUN.partial/   the files of tablefile.py for the executor's tables, <table>.arrows (IPC streams)
                   for the others, files/<sha256>, begun.json (the manifest as far as it is known),
                   progress.jsonl (marks: a seq, the number of rows of each table on disk up to it,
                   and the rows of calls, clones and address spaces that had not ended)
    RUN/           <table>.parquet (for tables with rows), files/<sha256> (if the guest saw any),
                   manifest.json

Sealing writes into RUN.partial, the manifest last, and then renames it. If a full disk or kill -9
cuts that off, the rows up to the last mark are on disk, and `recover` seals them.

Who writes RUN.partial holds a lock on it. A run that is overwritten changes places with the new one
and is then removed, under the name RUN.replaced: at every moment RUN is one whole run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from shstk.schemas.arrow import CumulativeOptions, apply, keep, sorted_by
from shstk.schemas.door import FILES, PLUGINS, faults
from shstk.schemas.errors import BadRun, CannotWrite, OutputExists
from shstk.schemas.manifest import NAME as MANIFEST
from shstk.schemas.manifest import U64, Manifest, PluginEntry, TableEntry
from shstk.schemas.partial import PARTIAL
from shstk.schemas.rows import to_batch
from shstk.schemas.seq import STEPS
from shstk.schemas.tables import TABLES, TRACED, tables_of
from shstk.schemas.values import TableRow
from shstk.tracer.recording.directory import locked, publish, remove, sync_all, writing
from shstk.tracer.recording.tablefile import (
    GROUP,
    STREAM,
    TableFile,
    new_stream,
    read_saved,
    read_stream,
)

BEGUN: Final = "begun.json"
PROGRESS: Final = "progress.jsonl"

_TOO_EARLY: Final = "it was cut off before anything was on disk: remove it and record again"


class Partial:
    """A run directory that is not sealed yet."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.size = 0  # bytes on disk at the last mark
        self._of_files = 0  # bytes of the files that the guest read
        self._unlock = weakref.finalize(self, os.close, lock)
        self._files: dict[str, TableFile] = {}  # of the executor's tables, in seq order
        # Of the other tables, whose rows may be late: a call's comes at its end.
        self._streams: dict[str, pa.RecordBatchStreamWriter] = {}

    @classmethod
    def create(cls, run: Path, force: bool) -> Partial:
        """Create an empty RUN.partial. Raises CannotWrite if it or RUN exists, unless forced."""
        _check_target(run, force)
        path = run.with_name(run.name + PARTIAL)
        if path.exists():
            if not force or not _ours(path):
                raise OutputExists(
                    f"{path} already exists: a recording that was cut off, or is still running",
                    f"salvage it with `shstk recover {path}`, or overwrite it with --force",
                )
            lock = locked(path)
            remove(path)
            os.close(lock)
        with writing(path):
            path.mkdir(parents=True)
            lock = locked(path)
            (path / FILES).mkdir()
        return cls(path, lock)

    @classmethod
    def reopen(cls, path: Path) -> Partial:
        """What a recording left. Raises OutputExists if it is still running."""
        return cls(path, locked(path))

    def release(self) -> None:
        """Unlock the directory."""
        self._unlock()

    @property
    def run(self) -> Path:
        return self.path.with_name(self.path.name.removesuffix(PARTIAL))

    @property
    def _kept(self) -> str:
        return f"the recording is kept: free some space, then run `shstk recover {self.path}`"

    def keep(self, manifest: Manifest) -> None:
        with writing(self.path, self._kept):
            _write(self.path / BEGUN, manifest.to_json().encode())

    def add_file(self, data: bytes) -> str:
        """Store a file that the guest read; return its sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        target = self.path / FILES / sha256
        if not target.exists():
            with writing(self.path, self._kept):
                _write(target, data)
            self._of_files += len(data)
        return sha256

    def add_plugin(self, name: str, table: pa.Table) -> PluginEntry:
        """Store a plugin's table; return its entry in the manifest."""
        target = self.path / PLUGINS / f"{name}.parquet"
        with writing(self.path, self._kept):
            target.parent.mkdir(exist_ok=True)
            import pyarrow.parquet as pq  # loads slowly

            pq.write_table(table, target, compression="zstd")
            data = target.read_bytes()
        return PluginEntry(
            rows=table.num_rows,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            columns={field.name: str(field.type) for field in table.schema},
        )

    def append(self, table: str, batch: pa.RecordBatch) -> None:
        with writing(self.path, self._kept):
            if table in TRACED:
                if table not in self._files:
                    self._files[table] = TableFile(table, self.path)
                self._files[table].append(batch)
                return
            if table not in self._streams:
                self._streams[table] = new_stream(self._stream(table), table)
            self._streams[table].write_batch(batch)

    def mark(
        self, seq: int, rows: dict[str, int], open_rows: Sequence[TableRow], final: bool = False
    ) -> None:
        """Flush all rows up to seq to disk and log the number of rows of each table, and the rows
        of what has not ended. final: the run has ended."""
        line = json.dumps({"seq": hex(seq), "rows": rows, "open": open_rows, "final": final})
        with writing(self.path, self._kept), (self.path / PROGRESS).open("a") as progress:
            for file in self._files.values():
                file.save()
            progress.write(line + "\n")
            streamed = sum(self._stream(table).stat().st_size for table in self._streams)
            self.size = self._of_files + streamed + sum(f.size for f in self._files.values())

    def drop(self, tables: Iterable[str], manifest: Manifest) -> None:
        """Remove all rows of the executor's tables that `manifest` does not trace any more."""
        with writing(self.path, self._kept):
            _write(self.path / BEGUN, manifest.to_json().encode())
            for table in tables:
                if table in self._files:
                    self._files.pop(table).close()
                for kind in (GROUP, STREAM):
                    for path in self.path.glob(f"{table}.*{kind}"):
                        path.unlink()

    def close_streams(self) -> None:
        with writing(self.path, self._kept):
            for stream in (*self._streams.values(), *self._files.values()):
                stream.close()

    def discard(self) -> None:
        remove(self.path)
        self.release()

    def seal(
        self,
        manifest: Manifest,
        rows: Mapping[str, int],
        force: bool = False,
        more: Iterable[TableRow] = (),
    ) -> Path:
        """Seal the run. rows: the number of rows appended to each table. more: rows beside them, of
        tables that the executor does not write."""
        extra: dict[str, list[dict[str, Any]]] = {}
        for name, row in more:
            extra.setdefault(name, []).append(row)
        tables = {
            name: self._sealer(name, rows.get(name, 0), extra.get(name, []))
            for name in TABLES
            if rows.get(name) or name in extra
        }
        return self.publish(manifest, tables, force)

    def _sealer(self, name: str, rows: int, more: list[dict[str, Any]]) -> Callable[[], TableEntry]:
        if name in self._files:
            return self._files[name].seal
        if name in TRACED:
            return self.table(name, _first(rows, read_saved(name, self.path)))
        return self.table(name, _in_order(lambda: self._of_stream(name, rows, more)))

    def _of_stream(
        self, name: str, rows: int, more: list[dict[str, Any]]
    ) -> Iterator[pa.RecordBatch]:
        yield from _first(rows, read_stream(self._stream(name)))
        if more:
            yield to_batch(TABLES[name], more)

    def saved_rows(self, table: str) -> int:
        """The number of rows on disk, for a recording that was cut off."""
        if table in TRACED:
            return sum(batch.num_rows for batch in read_saved(table, self.path))
        return sum(batch.num_rows for batch in read_stream(self._stream(table)))

    def _stream(self, table: str) -> Path:
        return self.path / f"{table}{STREAM}"

    def table(self, name: str, batches: Iterable[pa.RecordBatch]) -> Callable[[], TableEntry]:
        """A function for `publish` that writes a table of these rows."""
        return lambda: _write_table(name, batches, self.path)

    def publish(
        self, manifest: Manifest, tables: Mapping[str, Callable[[], TableEntry]], force: bool
    ) -> Path:
        """Write the tables, then the manifest, and rename the directory."""
        try:
            _check_target(self.run, force)
            with writing(self.path, self._kept):
                self._write_tables(manifest, tables)
                return self.finish(force)
        finally:
            self.release()

    def _write_tables(
        self, manifest: Manifest, tables: Mapping[str, Callable[[], TableEntry]]
    ) -> None:
        for stale in self.path.glob("*.parquet"):  # of a seal that was cut off
            stale.unlink()
        with ThreadPoolExecutor(2) as pool:
            entries = pool.map(lambda seal: seal(), tables.values())
            sealed = dict(zip(tables, entries, strict=True))
        _write(self.path / MANIFEST, replace(manifest, tables=sealed).to_json().encode())
        if not manifest.plugins and (self.path / PLUGINS).exists():
            remove(self.path / PLUGINS)  # cut off after the plugins finished, before the seal

    def finish(self, force: bool = False) -> Path:
        """Remove the files that only recording needed, and rename. The manifest exists already."""
        _check_target(self.run, force)
        for leftover in self.leftovers():
            leftover.unlink(missing_ok=True)
        files = self.path / FILES
        if files.is_dir() and not any(files.iterdir()):
            files.rmdir()
        sync_all(self.path.rglob("*"))
        publish(self.path, self.run)
        return self.run

    def leftovers(self) -> list[Path]:
        """The files that only recording needs."""
        return [
            *self.path.rglob("*.new"),
            *self.path.glob(f"*{STREAM}"),
            *self.path.glob(f"*{GROUP}"),
            self.path / BEGUN,
            self.path / PROGRESS,
        ]


def write(
    run: Path,
    manifest: Manifest,
    tables: Mapping[str, pa.Table],
    files: Iterable[bytes] = (),
    force: bool = False,
) -> Path:
    """Write a sealed run of tables in memory, rows in seq order. files: the bytes of the inputs.

    Raises CannotWrite.
    """
    partial = Partial.create(run, force)
    try:
        for data in files:
            partial.add_file(data)
        filled = {
            name: partial.table(name, tables[name].to_batches())
            for name in TABLES
            if name in tables and tables[name].num_rows
        }
        return partial.publish(manifest, filled, force)
    except CannotWrite:
        shutil.rmtree(partial.path, ignore_errors=True)
        raise


def recover(directory: Path, force: bool = False) -> Path:
    """Seal the complete part of a recording that was cut off. directory: RUN.partial (or RUN).
    force: overwrite RUN.

    The manifest has the ending `recovered` and the seq up to which every table is complete, unless
    the guest had ended and only sealing was cut off. Raises BadRun, CannotWrite.
    """
    path = directory if directory.name.endswith(PARTIAL) else Path(f"{directory}{PARTIAL}")
    if not path.is_dir():
        if (directory / MANIFEST).exists():
            raise BadRun(f"{directory} is already complete", f"there is no {path}")
        raise BadRun(f"{path}: no such directory", "give the RUN.partial that a recording left")
    partial = Partial.reopen(path)
    try:
        return _recovered(partial, force)
    finally:
        partial.release()


def _recovered(partial: Partial, force: bool) -> Path:
    path = partial.path
    _check_target(partial.run, force)
    if _sealed(partial):
        with writing(path):
            return partial.finish(force)
    try:
        begun = Manifest.from_json((path / BEGUN).read_text(), str(path / BEGUN))
        marks = [json.loads(line) for line in _whole_lines(path / PROGRESS)]
    except OSError as e:
        raise BadRun(f"{path}: nothing to recover: {e.strerror}", _TOO_EARLY) from e
    except ValueError as e:
        raise BadRun(f"{path}: nothing to recover: {e}", _TOO_EARLY) from e
    traced = tables_of(begun.traced)
    found = {name: partial.saved_rows(name) for name in TABLES}
    for mark in reversed(marks):
        rows = {n: count for n, count in mark["rows"].items() if n not in TRACED or n in traced}
        if all(found[name] >= count for name, count in rows.items()):
            break
    else:
        raise BadRun(f"{path}: nothing to recover", _TOO_EARLY)
    if not mark["final"]:
        seq = int(mark["seq"], 16)
        begun = replace(
            begun, ending="recovered", icount=U64(seq // STEPS), recovered_up_to=U64(seq)
        )
    return partial.seal(begun, rows, force, mark["open"])


def _sealed(partial: Partial) -> bool:
    """Whether all was written, and only the last steps were cut off. A file that does not fit the
    manifest is written once more, from what the recording left."""
    try:
        manifest = Manifest.from_json((partial.path / MANIFEST).read_text(), MANIFEST)
    except (OSError, ValueError, BadRun):
        return False
    temporary = {path.name for path in partial.leftovers()}
    if not any((partial.path / FILES).glob("*")):
        temporary.add(FILES)
    return all(fault.where.name in temporary for fault in faults(partial.path, manifest))


def _first(rows: int, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch[:rows]
        rows -= min(rows, batch.num_rows)
        if not rows:
            return


def _whole_lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _in_order(batches: Callable[[], Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """The rows sorted by seq. Only rows that arrived after one with a higher seq are in memory."""

    def split() -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch, int]]:
        top = 0
        for batch in batches():
            from_top = CumulativeOptions(pa.scalar(top, pa.uint64()))
            highest = apply("cumulative_max", batch["seq"], options=from_top)
            top = highest[-1].as_py()
            timely = apply("equal", batch["seq"], highest)
            yield keep(batch, timely), keep(batch, apply("invert", timely)), top

    late = [late for _, late, _ in split() if late.num_rows]
    waiting = sorted_by(pa.Table.from_batches(late), "seq") if late else None
    for timely, _, top in split():
        if waiting is None:
            yield timely
            continue
        due = apply("sum", apply("less_equal", waiting["seq"], top)).as_py() or 0
        merged = pa.concat_tables([pa.Table.from_batches([timely]), waiting.slice(0, due)])
        waiting = waiting.slice(due)
        yield from sorted_by(merged, "seq").combine_chunks().to_batches()


def _write_table(name: str, batches: Iterable[pa.RecordBatch], directory: Path) -> TableEntry:
    file = TableFile(name, directory)
    for batch in batches:
        file.append(batch)
    return file.seal()


def _check_target(run: Path, force: bool) -> None:
    """Raises CannotWrite if the target exists and must not be overwritten."""
    try:
        str(run.absolute()).encode()
    except UnicodeEncodeError as e:
        raise CannotWrite(f"{str(run)!r} is not UTF-8", "choose another place with -o") from e
    if not run.name:
        raise CannotWrite(f"{run}: not a name for a run directory")
    if not os.path.lexists(run):
        return
    if not force:
        raise OutputExists(f"{run} already exists", "choose another with -o, or use --force")
    if not (run / MANIFEST).is_file() and not (run.is_dir() and not any(run.iterdir())):
        raise OutputExists(f"{run} exists and is not a run", "--force overwrites runs only")


def _ours(partial: Path) -> bool:
    """Whether a recording made all files of the directory, so that --force may remove it."""
    names = {FILES, PLUGINS, BEGUN, PROGRESS, MANIFEST}
    kinds = {".parquet", ".new", GROUP, STREAM}
    return partial.is_dir() and all(
        entry.name in names or entry.suffix in kinds for entry in partial.iterdir()
    )


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically. What outlives a crash of the machine is synced by `finish`."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)
