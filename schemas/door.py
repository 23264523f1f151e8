"""The door through which every file of a run directory is opened.

A run may come from anybody. Before a library parses a file of it, the file is known to be a regular
file of the size and hash in the manifest, and the metadata of a table to lie within what shstk
writes and this machine can hold. `faults` yields everything that is wrong with a run.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from shstk.schemas.arrow import ParquetFile, apply, cast
from shstk.schemas.errors import BadRun
from shstk.schemas.footer import Group, row_groups
from shstk.schemas.manifest import NAME as MANIFEST
from shstk.schemas.manifest import Manifest, PluginEntry, TableEntry
from shstk.schemas.partial import PARTIAL
from shstk.schemas.rows import schema
from shstk.schemas.tables import TRACED

FILES: Final = "files"
PLUGINS: Final = "plugins"

_HASHES: Final = ("inputs", "tree")  # tables that refer to files by their hash
_AGAIN: Final = "the run is damaged: copy it again from an intact one, or record it again"
_FOREIGN: Final = "shstk did not write this: do not trust where it came from"

# What shstk writes lies far below these.
_MANIFEST_BYTES: Final = 2**26
_GROUP_ROWS: Final = 2**20
_SLACK: Final = 2**16  # bytes of a column chunk besides its values: page headers, levels


class Fault(BadRun):
    """Something that is wrong with a file of a run."""

    def __init__(self, where: Path, what: str, hint: str) -> None:
        super().__init__(f"{where}{what}", hint)
        self.where = where


def read_manifest(path: Path) -> Manifest:
    """The manifest of a sealed run. Raises BadRun."""
    if path.name.endswith(PARTIAL) and path.is_dir():
        raise BadRun(
            f"{path} is a recording that was cut off or is still running",
            f"recover its complete rows with `shstk recover {path}`",
        )
    where = path / MANIFEST
    try:
        return Manifest.from_json(_bytes(where, _MANIFEST_BYTES).decode(), str(where))
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


def read_file(path: Path, sha256: str) -> bytes:
    """A file that the guest read (inputs.sha256). path: of the run. Raises BadRun."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise BadRun(f"{path}: {sha256!r:.40} is not a sha256", _FOREIGN)
    try:
        return _bytes(path / FILES / sha256)
    except OSError as e:
        raise BadRun(f"{path / FILES / sha256}: {e.strerror}", _AGAIN) from e


def faults(
    path: Path,
    manifest: Manifest,
    contents: bool = True,
    memory: int | None = None,
    decode: bool = False,
) -> Iterator[Fault]:
    """Everything that is wrong with the files of a run, in the order of the manifest.

    contents: read every file and compare its hash; without, only names, kinds, sizes and metadata.
    decode: also decode every value. Who forges a table can make its hash fit, not its pages.
    memory: bytes for a table that is read whole; by default half of what this process may have.
    Takes time in proportion to the bytes of the run.
    """
    wanted = {MANIFEST, *(f"{name}.parquet" for name in manifest.tables)}
    if manifest.stdin is not None or any(name in manifest.tables for name in _HASHES):
        wanted.add(FILES)
    if manifest.plugins:
        wanted.add(PLUGINS)
        yield from _names(path / PLUGINS, {f"{name}.parquet" for name in manifest.plugins})
    yield from _names(path, wanted)
    intact = set()
    for name, entry in manifest.tables.items():
        found = list(_table(path / f"{name}.parquet", entry, contents, memory, decode))
        yield from found
        if not found:
            intact.add(name)
    for name, plugin in manifest.plugins.items():
        yield from _table(path / PLUGINS / f"{name}.parquet", plugin, contents, memory, decode)
    if contents and intact >= manifest.tables.keys() & set(_HASHES):
        yield from _files(path, manifest)


def _names(directory: Path, wanted: set[str]) -> Iterator[Fault]:
    """Every file of the manifest exists, and no other."""
    found = {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
    for name in sorted(wanted - found):
        yield Fault(directory / name, " is missing", _AGAIN)
    for name in sorted(found - wanted):
        yield Fault(
            directory / name,
            " does not belong to the run",
            "a run has only the files in its manifest; move other files out of the directory",
        )


def _files(path: Path, manifest: Manifest) -> Iterator[Fault]:
    """The files that the guest read exist, and their names are their hashes."""
    hashes: set[str | None] = {manifest.stdin}
    for name in _HASHES:
        if name in manifest.tables:
            with ParquetFile(path / f"{name}.parquet", ["sha256"]) as opened:
                for batch in opened.iter_batches(columns=["sha256"]):
                    hashes.update(batch.column(0).dictionary.to_pylist())
    wanted = {sha256 for sha256 in hashes if sha256 is not None}
    if wanted:
        yield from _names(path / FILES, wanted)
    for sha256 in sorted(wanted):
        yield from _hash(path / FILES / sha256, sha256)


def _table(
    file: Path, entry: TableEntry | PluginEntry, contents: bool, memory: int | None, decode: bool
) -> Iterator[Fault]:
    """Whether a table's file is what its manifest says."""
    try:
        size = _regular(file).st_size
    except Fault as fault:
        yield fault
        return
    except OSError:
        return  # `_names` says that it is missing
    if size != entry.bytes:
        yield Fault(file, f" has {size} bytes, its manifest says {entry.bytes}", _AGAIN)
        return
    if contents and (changed := list(_hash(file, entry.sha256))):
        yield from changed
        return
    try:
        groups = row_groups(file)
        with ParquetFile(file) as opened:
            columns = opened.schema
        with ParquetFile(file, _texts(columns)) as opened:
            found = list(_metadata(file, opened.metadata, groups, entry, columns))
            if file.stem not in TRACED:  # those are read in parts
                found += _held(file, opened, groups, columns, memory or _memory())
            yield from found
            if decode and not found:
                for batch in opened.iter_batches():
                    batch.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as e:
        yield Fault(file, f": {e}", _AGAIN)


def _fits(columns: pa.Schema, due: pa.Schema) -> bool:
    """Whether a file has these columns. One that may be null now may once have had to be there."""
    return columns.names == due.names and all(
        there.type == now.type and (now.nullable or not there.nullable)
        for there, now in zip(columns, due, strict=True)
    )


def _metadata(
    file: Path,
    metadata: Any,
    groups: list[Group],
    entry: TableEntry | PluginEntry,
    columns: pa.Schema,
) -> Iterator[Fault]:
    if metadata.num_rows != entry.rows:
        yield Fault(file, f" has {metadata.num_rows} rows, its manifest says {entry.rows}", _AGAIN)
    elif isinstance(entry, PluginEntry):
        if {field.name: str(field.type) for field in columns} != entry.columns:
            yield Fault(file, " does not have the columns in its manifest", _AGAIN)
    elif not _fits(columns, schema(file.stem)):
        yield Fault(file, f" does not have the columns of {file.stem}", _AGAIN)
    told = [metadata.metadata or {}, *(field.metadata or {} for field in columns)]
    if not all(_is_utf8(word) for pairs in told for pair in pairs.items() for word in pair):
        yield Fault(file, " has metadata that is not UTF-8", _FOREIGN)
    for group in groups:
        if not 0 <= group.rows <= _GROUP_ROWS:
            yield Fault(file, f" has a row group of {group.rows} rows", _FOREIGN)
            return
        for field in columns:
            size, width = _size(group, columns, field.name), _width(field.type)
            if width and not 0 <= size <= 2 * group.rows * width + _SLACK:
                yield Fault(
                    file,
                    f": column {field.name} says it has {size} bytes for {group.rows} rows",
                    _FOREIGN,
                )
                return


def _is_utf8(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _held(
    file: Path, opened: ParquetFile, groups: list[Group], columns: pa.Schema, memory: int
) -> Iterator[Fault]:
    """Whether memory can hold a table that is read whole.

    A dictionary makes a small file of long strings. A string is no longer than its column is in its
    row group; only if that does not settle it are the strings looked at.
    """
    texts = _texts(columns)
    fixed = opened.metadata.num_rows * sum(_width(field.type) for field in columns)
    at_most = sum(g.rows * _size(g, columns, name) for g in groups for name in texts)
    if fixed + at_most <= memory:
        return
    needed = fixed + _text_bytes(opened, texts)
    if needed > memory:
        yield Fault(
            file,
            f" needs {needed:,} bytes of memory, and {memory:,} are there",
            "judge it on a larger machine, if you trust where it came from",
        )


def _text_bytes(opened: ParquetFile, texts: list[str]) -> int:
    """The bytes of all strings, each counted as often as it occurs."""
    total = 0
    for batch in opened.iter_batches(2**16, columns=texts):
        for array in batch.columns:
            lengths = apply("binary_length", cast(array.dictionary, pa.large_binary()))
            total += apply("sum", apply("take", lengths, array.indices)).as_py() or 0
    return total


def _size(group: Group, columns: pa.Schema, name: str) -> int:
    """Bytes of a column in a row group, uncompressed; 0 if a plugin's nested columns hide it."""
    if len(group.chunks) != len(columns):
        return 0
    at: int = columns.get_field_index(name)
    return group.chunks[at].bytes


def _texts(columns: pa.Schema) -> list[str]:
    return [field.name for field in columns if field.type in (pa.string(), pa.binary())]


def _width(kind: pa.DataType) -> int:
    """Bytes of a value; 0 if they differ. Parquet has no integers of less than 32 bits."""
    if pa.types.is_dictionary(kind):
        return 8
    return max(-(-kind.bit_width // 8), 4) if pa.types.is_primitive(kind) else 0


def _memory() -> int:
    """Bytes that this process may use: half of the machine, or its limit."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return machine if limit == resource.RLIM_INFINITY else min(machine, limit // 2)


def _hash(file: Path, sha256: str) -> Iterator[Fault]:
    try:
        _regular(file)
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except Fault as fault:
        yield fault
    except FileNotFoundError:
        return  # `_names` says that it is missing
    except OSError as e:
        yield Fault(file, f": {e.strerror}", _AGAIN)
    else:
        if found != sha256:
            yield Fault(file, f" is not what was recorded: its sha256 is {found[:16]}…", _AGAIN)


def _bytes(file: Path, limit: int | None = None) -> bytes:
    """Raises OSError, Fault."""
    size = _regular(file).st_size
    if limit is not None and size > limit:
        raise Fault(file, f" has {size} bytes, more than {limit}", _FOREIGN)
    return file.read_bytes()


def _regular(file: Path) -> os.stat_result:
    """Opening a FIFO waits for ever; reading /dev/zero has no end. Raises OSError, Fault."""
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise Fault(file, " is not a regular file", "a run has no links, pipes or devices")
    return found
