"""Records events as rows: the kernel model's one by one, the executor's in whole buffers.

Both go through a bounded queue to a second thread, which builds Arrow batches and appends them to a
sink: the table files in RUN.partial (rundir.py seals it), or a comparison with another run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa

from shstk.schemas.arrow import cast
from shstk.schemas.errors import CannotWrite
from shstk.schemas.manifest import Manifest, PluginEntry
from shstk.schemas.rows import check, kind_array, schema
from shstk.schemas.tables import FEW, TABLES, TRACED, tables_of
from shstk.schemas.values import TableRow, Values, by_name, in_order
from shstk.tracer import _core
from shstk.tracer.recording.kernelrows import Drained, drained_batch, row_buffer
from shstk.tracer.recording.rundir import Partial

_QUEUE: Final = 3  # maximum batches waiting for the second thread: 35 MB each, of cfi
_QUEUE_BYTES: Final = 2**25  # of strings in them
# Where a row of the kernel model has its `bytes`, in the tables with such a column.
_BYTES_AT: Final = {
    name: table.names.index("bytes") for name, table in TABLES.items() if "bytes" in table.names
}


@dataclass(frozen=True)
class Thresholds:
    """When rows in memory are passed on."""

    rows: int = 2**14  # of the kernel model
    bytes: int = 2**23  # in their bytes columns
    mark_seconds: float = 0.5  # between two marks: the most that kill -9 can lose


def trace_bits(tables: Container[str]) -> int:
    """The _core.TRACE_* bits that make the executor write these tables; other tables need none."""
    bits = 0
    for table in TRACED:
        if table in tables:
            bits |= _core.TABLES[table][0]
    return bits


class Buffers(Protocol):
    """The executor's trace buffers: a _core.Machine or a wrapper of it."""

    def pending(self, table: str) -> int: ...
    def drain(self, table: str) -> dict[str, memoryview]: ...


class Sink(Protocol):
    """The destination of batches. Its methods run on the second thread, except add_file."""

    def append(self, table: str, batch: pa.RecordBatch) -> None: ...

    def mark(self, seq: int, rows: dict[str, int], open_rows: Sequence[TableRow]) -> None:
        """Everything up to seq has been appended. rows: the number of rows of each table.
        open_rows: of what has not ended; they are appended when it ends."""
        ...

    def close_streams(self) -> None: ...

    def add_file(self, data: bytes) -> str:
        """Store bytes; rows refer to them by the returned sha256."""
        ...


@dataclass(frozen=True)
class Mark:
    """A point up to which everything was passed on, and the rows of what had not ended there."""

    seq: int
    open_rows: tuple[TableRow, ...]


class Collector:
    """Collects all events in batches for a sink. An error of the sink is raised here later.

    module_of: (mm, pc) -> modules.module, called for every new block of code. open_rows: the
    rows of what has not ended, as they would be if the run ended now.
    """

    keeps = True

    def __init__(
        self,
        sink: Sink,
        module_of: Callable[[int, int], int | None] = lambda mm, pc: None,
        thresholds: Thresholds = Thresholds(),
    ) -> None:
        self.module_of = module_of
        self.open_rows: Callable[[], Iterable[TableRow]] = tuple
        self._sink = sink
        self._rows = {name: row_buffer(name) for name in TABLES if name not in TRACED}
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._last_seq = 0
        self._thresholds = thresholds
        self._next_mark = time.monotonic() + thresholds.mark_seconds
        self._inputs: dict[tuple[str, str, int], int] = {}
        self._writer = _Writer(sink)

    def row(self, table: str, /, **columns: Any) -> None:
        """Add a row. Missing columns are null, kinds are words of the vocabulary."""
        self.add(table, in_order(table, columns))

    def add(self, table: str, values: Values) -> None:
        """`row`, for rows that are many. Raises BadRow for values that do not fit the table."""
        try:
            self._rows[table].add(values)
        except ValueError:
            check(TABLES[table], by_name(table, values))
            raise
        self._waiting_rows += 1
        if table in _BYTES_AT:
            self._waiting_bytes += len(values[_BYTES_AT[table]])
        most = self._thresholds
        if self._waiting_rows >= most.rows or self._waiting_bytes >= most.bytes:
            self._flush_rows()

    def drain(self, machine: Buffers) -> None:
        """Drain the executor's buffers: at STOP_FLUSH, and before `seal`."""
        for name in TRACED:
            if rows := machine.pending(name):
                columns = machine.drain(name)
                self._last_seq = max(self._last_seq, columns["seq"][rows - 1])
                modules = self._modules(columns) if name == "code" else None
                self._writer.put(name, lambda c=columns, n=name, m=modules: core_batch(n, c, m))
        if time.monotonic() >= self._next_mark:
            self.mark()

    def mark(self) -> None:
        """Flush the drained rows to disk, so that they survive kill -9."""
        self._flush_rows()
        unended = tuple(self.open_rows())
        upto = max(self._last_seq, *(row["seq"] for _, row in unended), 0)
        self._writer.put_mark(Mark(upto, unended))
        self._next_mark = time.monotonic() + self._thresholds.mark_seconds

    def tick(self, machine: Buffers) -> None:
        """To be called regularly: drains and marks if a mark is due."""
        if time.monotonic() >= self._next_mark:
            self.drain(machine)

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        """The number of an input file; the same for equal path, bytes and mode."""
        sha256 = self.file(data)
        key = (guest_path, sha256, mode)
        if key not in self._inputs:
            self._inputs[key] = len(self._inputs) + 1
            self.row(
                "inputs",
                seq=seq,
                input=self._inputs[key],
                guest_path=guest_path,
                sha256=sha256,
                size=len(data),
                mode=mode,
                first_seq=seq,
            )
        return self._inputs[key]

    def file(self, data: bytes) -> str:
        """Store bytes that the run needs; return their sha256."""
        return self._sink.add_file(data)

    def finish(self) -> None:
        """After the last event: wait until the sink has received everything."""
        self._flush_rows()
        self._writer.close()

    def stop(self) -> None:
        """End the second thread, whatever the sink has received."""
        self._writer.stop()

    def _modules(self, columns: dict[str, memoryview]) -> list[int | None]:
        return [self.module_of(mm, pc) for mm, pc in zip(columns["mm"], columns["pc"], strict=True)]

    def _flush_rows(self) -> None:
        for name, buffer in self._rows.items():
            if rows := buffer.rows:
                drained = buffer.drain()
                self._last_seq = max(self._last_seq, buffer.last)
                make = partial(drained_batch, name, rows, drained)
                self._writer.put(name, make, _string_bytes(drained))
        self._waiting_rows = self._waiting_bytes = 0


def _string_bytes(drained: Drained) -> int:
    return sum(len(values) for _, values, offsets in drained if offsets is not None)


class Recorder(Collector):
    """Records into `directory`.partial; `seal` renames it to `directory`.

    while_few: the words of --trace whose tables are dropped once that of its name has more than
    `few` rows. on_drop: called then, with the word: it need not be traced any more.

    Raises CannotWrite if the directory exists (without force) or cannot be created; later calls
    raise it if the disk is full. The rows written until then stay in RUN.partial.
    """

    def __init__(
        self,
        directory: Path,
        *,
        force: bool = False,
        module_of: Callable[[int, int], int | None] = lambda mm, pc: None,
        thresholds: Thresholds = Thresholds(),
        while_few: Iterable[str] = (),
        few: int = FEW,
    ) -> None:
        self.on_drop: Callable[[str], None] = lambda word: None
        self._partial = Partial.create(directory, force)
        self._force = force
        self._while_few = dict.fromkeys(while_few, 0)  # -> rows so far
        self._few = few
        self._begun: Manifest | None = None
        super().__init__(self._partial, module_of, thresholds)

    @property
    def size(self) -> int:
        """Bytes of the run on disk, some tenths of a second ago."""
        return self._partial.size

    def begin(self, manifest: Manifest) -> None:
        """Store the manifest as far as it is known, so that the run can be recovered."""
        self._begun = manifest
        self._partial.keep(manifest)

    def drain(self, machine: Buffers) -> None:
        for word in tuple(self._while_few):
            self._while_few[word] += machine.pending(word)
            if self._while_few[word] > self._few:
                self._drop(word, machine)
        super().drain(machine)

    def _drop(self, word: str, machine: Buffers) -> None:
        """Whether a table is dropped depends only on how many rows it would have in the end."""
        assert self._begun is not None
        del self._while_few[word]
        self.on_drop(word)
        traced = tuple(other for other in self._begun.traced if other != word)
        self._begun = replace(self._begun, traced=traced)
        tables = tables_of((word,))
        self._writer.put_drop(_Dropped(tables, partial(self._partial.drop, tables, self._begun)))
        for table in tables:
            if machine.pending(table):
                machine.drain(table)

    def plugin(self, name: str, table: pa.Table) -> PluginEntry:
        """Store a plugin's table; return its entry in the manifest."""
        return self._partial.add_plugin(name, table)

    def seal(self, manifest: Manifest) -> Path:
        """Write the finished run directory: sorted Parquet tables, the manifest last, and rename.

        manifest: without tables. Raises CannotWrite; the recording then stays in RUN.partial.
        """
        self.finish()
        if self._begun is not None:
            manifest = replace(manifest, traced=self._begun.traced)
        self._partial.keep(manifest)
        self._partial.mark(self._last_seq, self._writer.rows, (), final=True)
        return self._partial.seal(manifest, self._writer.rows, self._force)

    def abandon(self, machine: Buffers | None = None) -> None:
        """After an internal error: the recording stays in RUN.partial and can be recovered.

        Without `machine`, the rows in its buffers and all rows after the last mark are lost.
        """
        try:
            if machine:
                self.drain(machine)
                self.mark()
            self._writer.close()
        except CannotWrite:
            self._writer.stop()
        finally:
            self._partial.release()

    def discard(self) -> None:
        """The program never started: remove RUN.partial."""
        self._writer.stop()
        self._partial.discard()


class _MakeBatch(Protocol):
    def __call__(self) -> pa.RecordBatch: ...


_Item = tuple[str, _MakeBatch, int]


@dataclass(frozen=True)
class _Dropped:
    """Tables of which nothing is kept. drop: removes what is on disk."""

    tables: tuple[str, ...]
    drop: Callable[[], None]


class _Writer:
    """The second thread: builds batches and passes them to the sink, in order."""

    def __init__(self, sink: Sink) -> None:
        self.rows: dict[str, int] = {}  # written so far
        self._sink = sink
        self._queue: queue.Queue[_Item | Mark | _Dropped | None] = queue.Queue(_QUEUE)
        self._bytes = 0  # of strings in the queue
        self._room = threading.Condition()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="shstk-writer", daemon=True)
        self._thread.start()

    def put(self, table: str, make: _MakeBatch, size: int = 0) -> None:
        """size: bytes of strings in the batch. Waits while more than _QUEUE_BYTES are waiting."""
        self._raise()
        with self._room:
            self._room.wait_for(lambda: not self._bytes or self._bytes + size <= _QUEUE_BYTES)
            self._bytes += size
        self._queue.put((table, make, size))

    def put_mark(self, mark: Mark) -> None:
        self._raise()
        self._queue.put(mark)

    def put_drop(self, dropped: _Dropped) -> None:
        self._raise()
        self._queue.put(dropped)

    def close(self) -> None:
        """Wait until everything is written. Raises the sink's error, if any."""
        self.stop()
        self._raise()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error:
            raise self._error

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if not self._error:  # else drain the queue until the first thread sees the error
                try:
                    self._do(item)
                except Exception as e:
                    self._error = e
            if isinstance(item, tuple):
                with self._room:
                    self._bytes -= item[2]
                    self._room.notify()
        try:
            self._sink.close_streams()
        except Exception as e:
            self._error = self._error or e

    def _do(self, item: _Item | Mark | _Dropped) -> None:
        if isinstance(item, Mark):
            self._sink.mark(item.seq, self.rows, item.open_rows)
            return
        if isinstance(item, _Dropped):
            item.drop()
            for table in item.tables:
                self.rows.pop(table, None)
            return
        table, make, _ = item
        batch = make()
        self._sink.append(table, batch)
        self.rows[table] = self.rows.get(table, 0) + batch.num_rows


def core_batch(
    table: str, columns: dict[str, memoryview], modules: list[int | None] | None = None
) -> pa.RecordBatch:
    """A drained buffer as a batch. Columns without sentinels are not copied.

    The executor has no nulls: `fault` 255, `rd` 255, `mem_size` 0 and the kind of a cfi row mark
    them. modules: the module column of code rows.
    """
    wanted = schema(table)
    count = len(columns["seq"])
    given: dict[str, pa.Array] = {}
    for field in wanted:
        if pa.types.is_binary(field.type):
            offsets, data = (pa.py_buffer(columns[n]) for n in (f"{field.name}_offset", field.name))
            given[field.name] = pa.Array.from_buffers(field.type, count, [None, offsets, data])
        elif field.name in columns:
            type_ = pa.uint8() if pa.types.is_dictionary(field.type) else field.type
            buffer = pa.py_buffer(columns[field.name])
            given[field.name] = pa.Array.from_buffers(type_, count, [None, buffer])
    if table == "cfi":
        _null_cfi(given)
        given["kind"] = kind_array(table, "kind", given["kind"])
    elif table == "insn":
        _null_insn(given)
    elif table == "code":
        given["module"] = pa.array(modules, pa.uint32())
    return pa.record_batch([given[name] for name in wanted.names], schema=wanted)


# The kinds with an address, or an operand. The executor sets those of other kinds to 0.
_HAS_ADDR: Final = ("sspush", "sspopchk", "ssamoswap")
_HAS_OPERAND: Final = ("sspopchk", "ssamoswap", "lpad")


def _null_cfi(columns: dict[str, pa.Array]) -> None:
    for name, kinds in (("addr", _HAS_ADDR), ("operand", _HAS_OPERAND)):
        numbers = {TABLES["cfi"].column("kind").kinds.index(word) for word in kinds}
        columns[name] = _where(columns["kind"], numbers.__contains__, columns[name])
    columns["fault"] = _where(columns["fault"], lambda cause: cause != 255, columns["fault"])


def _null_insn(columns: dict[str, pa.Array]) -> None:
    for name in ("rd_value", "rd"):
        columns[name] = _where(columns["rd"], lambda rd: rd != 255, columns[name])
    for name in ("mem_addr", "mem_value", "mem_size"):
        columns[name] = _where(columns["mem_size"], bool, columns[name])


def _where(tags: pa.Array, valid: Callable[[int], bool], values: pa.Array) -> pa.Array:
    """The values, not copied; null unless valid(tag of the row, a u8).

    Uses a table of 256 entries: Arrow's comparisons of bytes take several times as long.
    """
    raw = tags.buffers()[1].to_pybytes()[: len(tags)]
    found = raw.translate(bytes(map(valid, range(256))))
    if 0 not in found:
        return values
    if 1 not in found:
        return pa.nulls(len(values), values.type)
    mask = pa.Array.from_buffers(pa.uint8(), len(tags), [None, pa.py_buffer(found)])
    validity = cast(mask, pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(values.type, len(values), [validity, values.buffers()[1]])
