"""A sealed run directory, read and verified."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from shstk.schemas.errors import BadRun
from shstk.schemas.manifest import NAME as MANIFEST
from shstk.schemas.manifest import Manifest, PluginEntry, TableEntry
from shstk.schemas.revisions import Revision
from shstk.schemas.rows import schema
from shstk.schemas.tables import TABLES
from shstk.schemas.units import UNITS, Unit

PARTIAL: Final = ".partial"
FILES: Final = "files"
PLUGINS: Final = "plugins"
PLUGIN: Final = "plugin_"  # before the name of a table that a plugin made
# Tables that name files by their hash.
_HASHES: Final = ("inputs", "tree")
_AGAIN: Final = "the run is damaged: copy it anew from where it was whole, or record it again"


class Run:
    """The facts of one run. Tables that have no rows are empty frames of their schema."""

    def __init__(
        self,
        manifest: Manifest,
        path: Path | None = None,
        tables: Mapping[str, pa.Table] | None = None,
        files: Iterable[bytes] = (),
    ) -> None:
        self.manifest = manifest
        self.path = path  # None: in memory only
        self._arrow: dict[str, pa.Table] = dict(tables or {})
        self._files = {hashlib.sha256(data).hexdigest(): data for data in files}
        self._frames: dict[str, pl.DataFrame] = {}

    @classmethod
    def open(cls, path: Path, verify: bool = True) -> Run:
        """The run in a directory. verify: hold every file against its sha256.

        Raises BadRun: missing, not sealed, another schema version, a file missing, left over,
        truncated or changed.
        """
        manifest = _read_manifest(path)
        _check_names(path, manifest)
        if verify:
            for name, entry in manifest.tables.items():
                _check_table(path / f"{name}.parquet", entry)
            for name, plugin in manifest.plugins.items():
                _check_plugin(path / PLUGINS / f"{name}.parquet", plugin)
            _check_files(path, manifest)
        return cls(manifest, path)

    @classmethod
    def from_tables(
        cls, manifest: Manifest, tables: Mapping[str, pa.Table], files: Iterable[bytes] = ()
    ) -> Run:
        """A run in memory; tables left out have no rows. Rows must be in seq order."""
        return cls(manifest, tables=tables, files=files)

    @property
    def row(self) -> Revision:
        """The kernel revision it was recorded under, with its switches as resolved then."""
        return self.manifest.row

    @property
    def name(self) -> str:
        """The directory's name, or the program's for a run in memory."""
        return self.path.name if self.path else self.manifest.argv[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Every table: those of schemas/tables.py, and those that plugins made: plugin_<name>."""
        return (*TABLES, *(f"{PLUGIN}{name}" for name in self.manifest.plugins))

    def table(self, name: str) -> pl.DataFrame:
        """One of `names`; those of schemas/tables.py in seq order. KeyError for another name."""
        if name in self._frames:
            return self._frames[name]
        if name not in self._arrow and (file := self.stored(name)):
            try:
                self._frames[name] = pl.read_parquet(file)
            except (OSError, pl.exceptions.PolarsError) as e:
                raise BadRun(f"{file}: {e}", _AGAIN) from e
        else:
            frame = pl.from_arrow(self.arrow(name))
            assert isinstance(frame, pl.DataFrame)
            self._frames[name] = frame
        return self._frames[name]

    def scan(self, name: str) -> pl.LazyFrame:
        """The same, lazily: columns and rows that are not asked for are not read."""
        if name not in self._frames and (file := self.stored(name)):
            return pl.scan_parquet(file)
        return self.table(name).lazy()

    def arrow(self, name: str) -> pa.Table:
        """The same as an Arrow table, kinds dictionary-encoded, doc lines and units as field
        metadata."""
        if name not in self.names:
            raise KeyError(name)
        if name in self._arrow:
            return self._arrow[name]
        if file := self.stored(name):
            try:
                self._arrow[name] = pq.read_table(file)
            except (OSError, pa.ArrowException) as e:
                raise BadRun(f"{file}: {e}", _AGAIN) from e
        else:
            self._arrow[name] = schema(name).empty_table()
        return self._arrow[name]

    def batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """The same in parts, so that a table larger than memory can be walked."""
        if name not in self._arrow and (file := self.stored(name)):
            with pq.ParquetFile(file) as opened:
                yield from opened.iter_batches()
        else:
            yield from self.arrow(name).to_batches()

    def file(self, sha256: str) -> bytes:
        """The bytes of a file the guest saw (inputs.sha256)."""
        if sha256 in self._files:
            return self._files[sha256]
        if not self.path:
            raise BadRun(f"{self.name} is a run in memory, without the file {sha256[:16]}…")
        try:
            return (self.path / FILES / sha256).read_bytes()
        except OSError as e:
            raise BadRun(f"{self.path / FILES / sha256}: {e.strerror}", _AGAIN) from e

    def held(self, sha256: str) -> bytes | None:
        """The same; None where a run in memory does without that file."""
        return self.file(sha256) if self.path or sha256 in self._files else None

    def schema(self, name: str) -> pa.Schema:
        """The columns of a table."""
        return schema(name) if name in TABLES else self.arrow(name).schema

    def units(self, name: str) -> dict[str, Unit]:
        """The units of a table's columns. A plugin gives them as field metadata. Without that,
        `seq` and `…_seq` are positions (docs/plugins.md) and other columns have no unit."""
        if name in TABLES:
            return TABLES[name].units
        found: dict[str, Unit] = {}
        for field in self.schema(name):
            told = (field.metadata or {}).get(b"unit", b"").decode()
            if told in UNITS:
                found[field.name] = told
            elif re.fullmatch("(.*_)?seq", field.name):
                found[field.name] = "seq"
        return found

    def stored(self, name: str) -> Path | None:
        """The file that holds a table's rows; None if there are none, or they are in memory."""
        if not self.path:
            return None
        if name in self.manifest.tables:
            return self.path / f"{name}.parquet"
        plugin = name.removeprefix(PLUGIN)
        return self.path / PLUGINS / f"{plugin}.parquet" if plugin != name else None


def _read_manifest(path: Path) -> Manifest:
    if path.name.endswith(PARTIAL) and path.is_dir():
        raise BadRun(
            f"{path} is a recording that was cut off, or still runs",
            f"salvage what is whole with `shstk recover {path}`",
        )
    where = path / MANIFEST
    try:
        return Manifest.from_json(where.read_bytes().decode(), str(where))
    except UnicodeDecodeError as e:
        raise BadRun(f"{where} is not UTF-8: {e}", _AGAIN) from e
    except OSError as e:
        partial = path.with_name(path.name + PARTIAL)
        if partial.is_dir():
            hint = f"salvage what is whole with `shstk recover {partial}`"
        elif path.is_dir():
            hint = f"a run directory holds a {MANIFEST}, which is written last"
        else:
            hint = "make one with `shstk record PROGRAM` or `shstk build LISTING`"
        raise BadRun(f"{path} is no run: {where.name}: {e.strerror}", hint) from e


def _check_names(path: Path, manifest: Manifest) -> None:
    """Every file the manifest names is there, and no other."""
    wanted = {MANIFEST, *(f"{name}.parquet" for name in manifest.tables)}
    if manifest.stdin is not None or any(name in manifest.tables for name in _HASHES):
        wanted.add(FILES)
    if manifest.plugins:
        wanted.add(PLUGINS)
        _compare_names(path / PLUGINS, {f"{name}.parquet" for name in manifest.plugins})
    _compare_names(path, wanted)


def _compare_names(directory: Path, wanted: set[str]) -> None:
    found = {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
    if missing := wanted - found:
        raise BadRun(f"{directory / min(missing)} is missing", _AGAIN)
    if extra := found - wanted:
        raise BadRun(
            f"{directory / min(extra)} does not belong to the run",
            "a run is what its manifest names; move other files out of the directory",
        )


def _check_files(path: Path, manifest: Manifest) -> None:
    """The files the guest saw are there, each with the bytes its name is the hash of."""
    hashes: set[str | None] = {manifest.stdin}
    for name in _HASHES:
        if name in manifest.tables:
            table = pq.read_table(path / f"{name}.parquet", columns=["sha256"])
            hashes.update(table["sha256"].unique().to_pylist())
    wanted = sorted(sha256 for sha256 in hashes if sha256 is not None)
    if wanted:
        _compare_names(path / FILES, set(wanted))
    for sha256 in wanted:
        _check_hash(path / FILES / sha256, sha256)


def _check_plugin(file: Path, entry: PluginEntry) -> None:
    found = _check_file(file, entry)
    if {field.name: str(field.type) for field in found} != entry.columns:
        raise BadRun(f"{file} has not the columns that its manifest says", _AGAIN)


def _check_table(file: Path, entry: TableEntry) -> None:
    if not _check_file(file, entry).equals(schema(file.stem)):
        raise BadRun(f"{file} has not the columns of {file.stem}", _AGAIN)


def _check_file(file: Path, entry: TableEntry | PluginEntry) -> pa.Schema:
    """Its columns; raises BadRun if it is not what the manifest says."""
    size = file.stat().st_size
    if size != entry.bytes:
        raise BadRun(f"{file} has {size} bytes, its manifest says {entry.bytes}", _AGAIN)
    _check_hash(file, entry.sha256)
    try:
        metadata = pq.read_metadata(file)
    except (OSError, pa.ArrowException) as e:
        raise BadRun(f"{file}: {e}", _AGAIN) from e
    if metadata.num_rows != entry.rows:
        raise BadRun(f"{file} has {metadata.num_rows} rows, its manifest says {entry.rows}", _AGAIN)
    return metadata.schema.to_arrow_schema()


def _check_hash(file: Path, sha256: str) -> None:
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as e:
        raise BadRun(f"{file}: {e.strerror}", _AGAIN) from e
    if found != sha256:
        raise BadRun(f"{file} is not what was recorded: its sha256 is {found[:16]}…", _AGAIN)
