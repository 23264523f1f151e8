"""The store of a campaign: a directory, or a place that pyarrow's file systems know by a URI.

    plan.parquet                       the cells of the campaign, and their keys
    cells/kernel=K/<batch>.parquet     rows (rows.py); a batch is committed whole, or not at all
    kept/<run>.run/                    runs that were kept; on an object store each is a tar

A batch is written under another name and renamed; on an object store an object appears when all of
it was put. Its name is a digest of its cells' keys, so a batch that is committed twice is there
once. A cell may be in several batches all the same, if it was executed twice: readers take one.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from shstk.corpus.cell import Cell, from_json
from shstk.corpus.parcels import packed
from shstk.corpus.places import UNREADABLE, opened, shown, told
from shstk.corpus.rows import CELL, KERNEL, WHOLE
from shstk.schemas.errors import CannotWrite, ShstkError

_PLAN: Final = "plan.parquet"
_NO_FOLDERS: Final = ("s3", "gcs", "abfs")
_COORDINATES: Final = ("key", "run", "program", "command", "kernel", "cpu", "seed", "quantum")


class NoCampaign(ShstkError):
    """There is no campaign in a place."""


class Store:
    """where: a directory, or a URI. Every reading raises ShstkError if the place cannot be read."""

    def __init__(self, where: str | Path) -> None:
        self.where = shown(str(where))
        self._fs, self._base = opened(str(where))

    @property
    def local(self) -> Path | None:
        """The directory, if it is one."""
        return Path(self._base) if self._fs.type_name == "local" else None

    # ---- the plan

    def write_plan(self, cells: Sequence[Cell], keys: Sequence[str]) -> None:
        table = {"key": list(keys), "spec": [cell.to_json() for cell in cells]}
        self._put(_PLAN, _parquet(pa.table(table)))

    @cached_property
    def plan(self) -> dict[str, Cell]:
        """The cells of the campaign by their keys. Raises NoCampaign."""
        table = self._planned("key", "spec")
        specs = zip(*(column.to_pylist() for column in table.columns), strict=True)
        try:
            return {key: from_json(spec) for key, spec in specs}
        except (TypeError, ValueError, LookupError) as error:
            raise ShstkError(
                f"{self.where}/{_PLAN} is of another version of shstk: {error}",
                "`shstk corpus run CORPUS.toml` writes it anew",
            ) from error

    def _planned(self, *columns: str) -> pa.Table:
        try:
            with self._fs.open_input_file(f"{self._base}/{_PLAN}") as file:
                return pq.read_table(file, columns=list(columns))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NoCampaign(
                f"{self.where}: there is no campaign", "shstk corpus run CORPUS.toml makes one"
            ) from error
        except UNREADABLE as error:
            raise ShstkError(f"{self.where}/{_PLAN}: {told(error)}") from error

    # ---- rows

    def commit(self, rows: Sequence[dict[str, Any]]) -> None:
        """Store rows. Raises CannotWrite."""
        kernels: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            kernels.setdefault(row["kernel"], []).append(row)
        for kernel, group in kernels.items():
            table = pa.Table.from_pylist(group, schema=CELL)
            named = "".join(sorted(row["key"] + row["outcome"] for row in group))
            batch = hashlib.sha256(named.encode()).hexdigest()[:32]
            folder = f"cells/kernel={quote(kernel, safe='')}"
            self._put(f"{folder}/{batch}.parquet", _parquet(table))

    def every(self) -> pl.LazyFrame:
        """Every stored row: also those of earlier plans, and several of a cell."""
        if self._fs.get_file_info(f"{self._base}/cells").type == pafs.FileType.NotFound:
            return pl.from_arrow(WHOLE.empty_table()).lazy()  # type: ignore[union-attr]
        dataset = ds.dataset(
            f"{self._base}/cells",
            schema=WHOLE,
            filesystem=self._fs,
            format="parquet",
            partitioning=ds.HivePartitioning(KERNEL),
        )
        return pl.scan_pyarrow_dataset(dataset)

    @property
    def cells(self) -> pl.LazyFrame:
        """The rows of the campaign's cells, each once: the finished one, if there are several."""
        stored = self.every().select("key", "outcome").collect()
        keys = pl.LazyFrame(self._planned("key"))
        rows = self.every().join(keys, on="key", how="semi")
        if stored["key"].is_duplicated().any():
            rows = rows.sort(pl.col("outcome") != "finished").unique(
                "key", keep="first", maintain_order=True
            )
        return rows

    @property
    def findings(self) -> pl.LazyFrame:
        """A row for each finding, with the coordinates of its cell."""
        return (
            self.cells.select(*_COORDINATES, "findings")
            .filter(pl.col("findings").list.len() > 0)
            .explode("findings")
            .unnest("findings")
        )

    def done(self) -> dict[str, str]:
        """The outcome of every stored key."""
        rows = self.every().select("key", "outcome").collect()
        return dict(rows.sort(pl.col("outcome") == "finished").iter_rows())

    # ---- kept runs

    def kept(self, run: str) -> Path | None:
        """A kept run on this machine."""
        place = self.local / "kept" / f"{run}.run" if self.local else None
        return place if place is not None and place.is_dir() else None

    def keep(self, run: Path) -> None:
        """Take a run into the store."""
        target = f"{self._base}/kept/{run.name}"
        if not self.local:
            self._put(f"kept/{run.name}.tar", packed(run))
            return
        if Path(target).exists():
            return
        aside = Path(target).with_name(f".{run.name}.{os.getpid()}")
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(run, aside)  # from another file system, perhaps
            aside.rename(target)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if not Path(target).exists():  # else another driver was faster
                raise CannotWrite(f"cannot write to {target}: {told(error)}") from error

    def kept_bytes(self) -> int:
        return sum(info.size or 0 for info in self.listed("kept"))

    # ---- files

    def listed(self, folder: str) -> list[pafs.FileInfo]:
        """Everything in a folder of the store."""
        place = f"{self._base}/{folder}"
        selector = pafs.FileSelector(place, allow_not_found=True, recursive=True)
        return list(self._fs.get_file_info(selector))

    def _put(self, name: str, data: bytes) -> None:
        path = f"{self._base}/{name}"
        try:
            if not self.local:
                if self._fs.type_name not in _NO_FOLDERS:
                    self._fs.create_dir(os.path.dirname(path))
                with self._fs.open_output_stream(path) as out:
                    out.write(data)
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{target.name}.{os.getpid()}")
            try:
                with aside.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                aside.replace(target)
            except OSError:
                aside.unlink(missing_ok=True)
                raise
        except UNREADABLE as error:
            raise CannotWrite(f"cannot write to {self.where}/{name}: {told(error)}") from error


def merged(stores: Iterable[Store], into: Store) -> int:
    """Join campaigns: the plans, and the rows of their cells, each once, in few files. Returns how
    many cells there are."""
    parts = list(stores)
    plan = {key: cell for store in parts for key, cell in store.plan.items()}
    for kernel in sorted({cell.kernel for cell in plan.values()}):
        rows: dict[str, dict[str, Any]] = {}  # of one kernel: all of them may not fit in memory
        for store in parts:
            for row in store.cells.filter(kernel=kernel).collect().iter_rows(named=True):
                if row["outcome"] == "finished" or row["key"] not in rows:
                    rows[row["key"]] = row
        into.commit(list(rows.values()))
    for store in parts:
        if store.local and (store.local / "kept").is_dir() and into.local:
            for run in sorted((store.local / "kept").glob("*.run")):
                if not into.kept(run.name.removesuffix(".run")):
                    shutil.copytree(run, into.local / "kept" / run.name, copy_function=_link)
    into.write_plan(list(plan.values()), list(plan))
    return len(plan)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()
