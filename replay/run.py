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
PLUGIN: Final = "plugin_"  # the prefix of a plugin's table
# Tables that refer to files by their hash.
_HASHES: Final = ("inputs", "tree")
_AGAIN: Final = "the run is damaged: copy it again from an intact one, or record it again"


class Run:
    """The tables of one run. Tables without rows are empty frames of their schema."""

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
        """The run in a directory. verify: check every file against its sha256.

        Raises BadRun if the run is missing, not sealed or has another schema version, or if a file
        is missing, extra, truncated or changed.
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
        """A run in memory; omitted tables have no rows. Rows must be in seq order."""
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
        """Every table: those of schemas/tables.py, and those of plugins: plugin_<name>."""
        return (*TABLES, *(f"{PLUGIN}{name}" for name in self.manifest.plugins))

    def table(self, name: str) -> pl.DataFrame:
        """A table in `names`; those of schemas/tables.py are in seq order. KeyError if unknown."""
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
        """The table, lazily: only the columns and rows in use are read."""
        if name not in self._frames and (file := self.stored(name)):
            return pl.scan_parquet(file)
        return self.table(name).lazy()

    def arrow(self, name: str) -> pa.Table:
        """The table in Arrow: kinds dictionary-encoded, doc lines and units as field metadata."""
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
        """The table in parts, for tables larger than memory."""
        if name not in self._arrow and (file := self.stored(name)):
            with pq.ParquetFile(file) as opened:
                yield from opened.iter_batches()
        else:
            yield from self.arrow(name).to_batches()

    def file(self, sha256: str) -> bytes:
        """The contents of a file that the guest read (inputs.sha256)."""
        if sha256 in self._files:
            return self._files[sha256]
        if not self.path:
            raise BadRun(f"{self.name} is a run in memory, without the file {sha256[:16]}…")
        try:
            return (self.path / FILES / sha256).read_bytes()
        except OSError as e:
            raise BadRun(f"{self.path / FILES / sha256}: {e.strerror}", _AGAIN) from e

    def held(self, sha256: str) -> bytes | None:
        """The contents of a file; None if a run in memory does not have it."""
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
            f"{path} is a recording that was cut off or is still running",
            f"recover its complete rows with `shstk recover {path}`",
        )
    where = path / MANIFEST
    try:
        return Manifest.from_json(where.read_bytes().decode(), str(where))
    except UnicodeDecodeError as e:
        raise BadRun(f"{where} is not UTF-8: {e}", _AGAIN) from e
    except OSError as e:
        partial = path.with_name(path.name + PARTIAL)
        if partial.is_dir():
            hint = f"recover its complete rows with `shstk recover {partial}`"
        elif path.is_dir():
            hint = f"a run directory has a {MANIFEST}, which is written last"
        else:
            hint = "make one with `shstk record PROGRAM` or `shstk build LISTING`"
        raise BadRun(f"{path} is not a run: {where.name}: {e.strerror}", hint) from e


def _check_names(path: Path, manifest: Manifest) -> None:
    """Check that every file in the manifest exists, and no other."""
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
            "a run has only the files in its manifest; move other files out of the directory",
        )


def _check_files(path: Path, manifest: Manifest) -> None:
    """Check that the files the guest read exist, and that their names are their hashes."""
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
        raise BadRun(f"{file} does not have the columns in its manifest", _AGAIN)


def _check_table(file: Path, entry: TableEntry) -> None:
    if not _check_file(file, entry).equals(schema(file.stem)):
        raise BadRun(f"{file} does not have the columns of {file.stem}", _AGAIN)


def _check_file(file: Path, entry: TableEntry | PluginEntry) -> pa.Schema:
    """The file's columns. Raises BadRun if it does not match the manifest."""
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
