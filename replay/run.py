"""A sealed run directory, read and verified."""

from __future__ import annotations

import gc
import hashlib
import re
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

import polars as pl
import pyarrow as pa

from shstk.schemas.arrow import ParquetFile
from shstk.schemas.door import PLUGINS, faults, read_file, read_manifest
from shstk.schemas.errors import BadRun, UsageError
from shstk.schemas.footer import row_groups
from shstk.schemas.manifest import Manifest
from shstk.schemas.revisions import Revision
from shstk.schemas.rows import schema
from shstk.schemas.seq import STEPS
from shstk.schemas.tables import DERIVABLE, TABLES, tables_of
from shstk.schemas.units import UNITS, Unit

PLUGIN: Final = "plugin_"  # the prefix of a plugin's table
_OF_DATA: Final = 256  # rows of a part where each may hold a megabyte
_AT_ONCE: Final = 2**20  # rows that are decoded to see whether they can be
_AGAIN: Final = "the run is damaged: copy it again from an intact one, or record it again"


class CannotDerive(Exception):
    """Why the tables that a run does not hold can't be made, as the end of a sentence."""


# Makes tables of a run that it does not hold, and returns their Parquet files; a table without rows
# has none. Raises CannotDerive.
Derive = Callable[["Run", Collection[str]], Mapping[str, Path]]


_on_disk: Final[weakref.WeakSet[Run]] = weakref.WeakSet()


def undecodable() -> BadRun | None:
    """The first table that can't be decoded, of the runs that are in use.

    A table's pages are decoded only when something reads it, deep inside Polars. This tells whether
    an error from there is the fault of a file that somebody forged.
    """
    gc.collect()  # of runs that nobody uses any more, some are still in cycles
    for run in sorted(_on_disk, key=lambda run: str(run.path)):
        for name in (*run.manifest.tables, *(f"{PLUGIN}{own}" for own in run.manifest.plugins)):
            if file := run.source(name):
                try:
                    frame = pl.scan_parquet(file)
                    for first in range(0, run.rows(name), _AT_ONCE):
                        frame.slice(first, _AT_ONCE).collect()
                    due = pl.DataFrame(run.schema(name).empty_table())
                    if frame.collect_schema() != due.schema:
                        return BadRun(f"{file} does not have the columns of {name}", _AGAIN)
                except KeyboardInterrupt:
                    raise
                except BaseException as e:  # a panic of Polars is no Exception
                    return BadRun(f"{file}: {e}", _AGAIN)
    return None


class Run:
    """The tables of one run. Tables without rows are empty frames of their schema.

    derive: makes the tables of tables.DERIVABLE that the run does not hold, when they are read;
    without it, and if that fails, they have no rows, and `missing` says why.
    """

    def __init__(
        self,
        manifest: Manifest,
        path: Path | None = None,
        tables: Mapping[str, pa.Table] | None = None,
        files: Iterable[bytes] = (),
        derive: Derive | None = None,
    ) -> None:
        self.manifest = manifest
        self.path = path  # None: in memory only
        self._arrow: dict[str, pa.Table] = dict(tables or {})
        self._files = {hashlib.sha256(data).hexdigest(): data for data in files}
        self._frames: dict[str, pl.DataFrame] = {}
        self._derive = derive
        self._derived: dict[str, Path | None] = {}
        self._missing: dict[str, str] = {}
        if path:
            _on_disk.add(self)

    @classmethod
    def open(cls, path: Path, verify: bool = True, derive: Derive | None = None) -> Self:
        """The run in a directory. verify: check every file against its sha256.

        Raises BadRun if the run is missing, not sealed or has another schema version, or if a file
        is missing, extra, truncated or changed.
        """
        manifest = read_manifest(path)
        if fault := next(faults(path, manifest, contents=verify), None):
            raise fault
        return cls(manifest, path, derive=derive)

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

    def must_reach(self, at: int, asked: str) -> None:
        """Raises UsageError if the run ended before the seq `at`. asked: by which words."""
        end = self.manifest.icount
        if at // STEPS > end:
            raise UsageError(f"{asked}: the run ends at {end}.0")

    def table(self, name: str) -> pl.DataFrame:
        """A table in `names`; those of schemas/tables.py are in seq order. KeyError if unknown."""
        if name in self._frames:
            return self._frames[name]
        if name not in self._arrow and (file := self.source(name)):
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
        if name not in self._frames and (file := self.source(name)):
            return pl.scan_parquet(file)
        return self.table(name).lazy()

    def arrow(self, name: str) -> pa.Table:
        """The table in Arrow: kinds dictionary-encoded, doc lines and units as field metadata."""
        if name not in self.names:
            raise KeyError(name)
        if name in self._arrow:
            return self._arrow[name]
        if file := self.source(name):
            try:
                with ParquetFile(file) as opened:
                    self._arrow[name] = opened.read()
            except (OSError, pa.ArrowException) as e:
                raise BadRun(f"{file}: {e}", _AGAIN) from e
        else:
            self._arrow[name] = schema(name).empty_table()
        return self._arrow[name]

    def batches(self, name: str, *columns: str) -> Iterator[pa.RecordBatch]:
        """The table in parts, for tables larger than memory. columns: all if none is named."""
        wanted = list(columns) or None
        if name not in self._arrow and (file := self.source(name)):
            try:
                with ParquetFile(file) as opened:
                    data = any(pa.types.is_binary(column.type) for column in opened.schema)
                    yield from opened.iter_batches(_OF_DATA if data else 65_536, columns=wanted)
            except (OSError, pa.ArrowException) as e:
                raise BadRun(f"{file}: {e}", _AGAIN) from e
        else:
            table = self.arrow(name)
            yield from (table.select(wanted) if wanted else table).to_batches()

    def file(self, sha256: str) -> bytes:
        """The contents of a file that the guest read (inputs.sha256)."""
        if sha256 in self._files:
            return self._files[sha256]
        if not self.path:
            raise BadRun(f"{self.name} is a run in memory, without the file {sha256[:16]}…")
        return read_file(self.path, sha256)

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

    def source(self, name: str) -> Path | None:
        """The Parquet file with a table's rows, made now if the run does not hold them; None if
        there are none, or they are in memory."""
        if not self.path:
            return None
        if name in self.manifest.tables:
            return self.path / f"{name}.parquet"
        if self.derivable(name):
            self.prepare((name,))
            return self._derived[name]
        plugin = name.removeprefix(PLUGIN)
        return self.path / PLUGINS / f"{plugin}.parquet" if plugin != name else None

    def derivable(self, name: str) -> bool:
        """Whether a table's rows are not in the run, but its execution would make them again."""
        manifest = self.manifest
        executable = bool(manifest.trees) and not manifest.provenance.real
        return (
            bool(self.path) and executable and name in tables_of({*DERIVABLE} - {*manifest.traced})
        )

    def prepare(self, names: Iterable[str]) -> None:
        """Make those of these tables that are derivable, all in one execution."""
        wanted = [name for name in names if self.derivable(name) and name not in self._derived]
        if not wanted:
            return
        try:
            if self._derive is None:
                raise CannotDerive("the run does not hold these rows, and was not executed again")
            made = self._derive(self, wanted)
        except CannotDerive as error:
            made = {}
            self._missing |= dict.fromkeys(wanted, str(error))
        self._derived |= {name: made.get(name) for name in wanted}

    def missing(self, name: str) -> str:
        """Why a derivable table has no rows; empty if it was made, and for any other table."""
        self.prepare((name,))
        return self._missing.get(name, "")

    def complete(self, name: str) -> frozenset[str]:
        """The columns of a table that its file says to have no nulls."""
        if name in self._arrow or not (file := self.source(name)):
            return frozenset()
        nulls: dict[str, bool] = {}
        for group in row_groups(file):
            for chunk in group.chunks:
                nulls[chunk.name] = nulls.get(chunk.name, False) or chunk.nulls != 0
        return frozenset(name for name, some in nulls.items() if not some)

    def rows(self, name: str) -> int:
        """How many rows a table has."""
        if name not in self._arrow and (file := self.source(name)):
            with ParquetFile(file) as opened:
                return int(opened.metadata.num_rows)
        return int(self.arrow(name).num_rows)
