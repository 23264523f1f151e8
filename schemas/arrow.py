"""Arrow's functions and Parquet files, without the parts of pyarrow that load slowly.

`import pyarrow.compute` writes a Python function, with its documentation, for each of Arrow's 280
functions: 26 ms. `import pyarrow.parquet` loads clients of S3, Azure and Google's storage: 18 ms.
Both are made of what this module takes from pyarrow. The methods of arrays and batches that compute
(cast, filter, take, is_valid, fill_null, sort_by) load pyarrow.compute too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pyarrow._compute import (
    CastOptions,
    CumulativeOptions,
    IndexOptions,
    SetLookupOptions,
    SortOptions,
    call_function,
)
from pyarrow._parquet import ParquetReader, ParquetWriter, SortingColumn

__all__ = [
    "CumulativeOptions", "ParquetFile", "SetLookupOptions", "SortingColumn", "apply",
    "cast", "fill_null", "index_of", "keep", "sorted_by", "write_parquet",
]  # fmt: skip


def apply(function: str, *values: Any, options: Any = None) -> Any:
    """One of Arrow's functions (https://arrow.apache.org/docs/cpp/compute.html)."""
    return call_function(function, values, options)


def cast(values: Any, to: pa.DataType) -> Any:
    return values if values.type == to else call_function("cast", (values,), CastOptions.safe(to))


def fill_null(values: Any, value: Any) -> Any:
    if not values.null_count:
        return values
    return call_function("coalesce", (values, pa.scalar(value, values.type)))


def keep(rows: Any, mask: Any) -> Any:
    """The rows of an array, a batch or a table for which the mask is true."""
    return call_function("filter", (rows, mask))


def sorted_by(rows: Any, key: str) -> Any:
    """The rows of a batch or a table in the order of a column; equal ones keep theirs."""
    order = call_function("sort_indices", (rows[key],), SortOptions([("", "ascending")]))
    return call_function("take", (rows, order))


def index_of(values: Any, value: Any) -> int:
    """Where a value is first; -1: nowhere."""
    found = call_function("index", (values,), IndexOptions(pa.scalar(value, values.type)))
    return int(found.as_py())


class ParquetFile:
    """A Parquet file to read. read_dictionary: the columns that stay dictionary-encoded."""

    def __init__(self, path: Path, read_dictionary: Sequence[str] = ()) -> None:
        self._reader = ParquetReader()
        self._reader.open(
            str(path), read_dictionary=read_dictionary or None, arrow_extensions_enabled=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def metadata(self) -> Any:
        """As pyarrow.parquet.FileMetaData."""
        return self._reader.metadata

    @property
    def schema(self) -> pa.Schema:
        return self._reader.schema_arrow

    def read(self) -> pa.Table:
        return self._reader.read_all(use_threads=True)

    def iter_batches(
        self, rows: int = 65_536, columns: Sequence[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        groups, leaves = range(self.metadata.num_row_groups), self._leaves(columns)
        yield from self._reader.iter_batches(rows, groups, leaves, use_threads=True)

    def _leaves(self, columns: Sequence[str] | None) -> list[int] | None:
        """The numbers of columns in the file, where a nested one is several."""
        if columns is None:
            return None
        paths = self._reader.column_paths
        return [at for name in columns for at, path in enumerate(paths) if path[0] == name]


def write_parquet(rows: pa.Table, path: Path, group: int, **options: Any) -> None:
    """group: rows of a row group. options: as of pyarrow.parquet.ParquetWriter."""
    with pa.OSFile(str(path), "wb") as file:
        writer = ParquetWriter(
            file,
            rows.schema,
            version="2.6",
            data_page_version="1.0",
            write_statistics=True,
            writer_engine_version="V2",  # the only one
            **options,
        )
        writer.write_table(rows, row_group_size=group)
        writer.close()
