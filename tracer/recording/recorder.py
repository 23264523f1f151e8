"""What happens becomes rows: the kernel model's one by one, the executor's in whole buffers.

Both go through a bounded queue to a second thread, which makes Arrow batches of them and appends
those to a sink: the tables' files in RUN.partial (rundir.py seals it), or whoever compares
them with another run's.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa

from shstk.schemas.errors import CannotWrite
from shstk.schemas.manifest import Manifest, PluginEntry
from shstk.schemas.rows import kind_array, schema, to_batch
from shstk.schemas.tables import TABLES
from shstk.tracer.recording.rundir import Partial

CORE_TABLES: Final = ("cfi", "flow", "code", "insn")
TRACE_BITS: Final = {"cfi": 1, "flow": 2, "insn": 4}  # _core.TRACE_*
BIT_OF: Final = TRACE_BITS | {"code": 2}

_QUEUE: Final = 8  # batches that may wait for the second thread


@dataclass(frozen=True)
class Thresholds:
    """When what waits in memory moves on."""

    rows: int = 2**14  # of the kernel model
    bytes: int = 2**23  # in their bytes columns
    mark_seconds: float = 0.5  # between two marks: what kill -9 may cost


class Buffers(Protocol):
    """The executor's trace buffers: a _core.Machine, or what stands before it."""

    def pending(self, table: str) -> int: ...
    def drain(self, table: str) -> dict[str, memoryview]: ...


class Sink(Protocol):
    """Where batches go, on the second thread; add_file alone is called on the first."""

    def append(self, table: str, batch: pa.RecordBatch) -> None: ...

    def mark(self, seq: int, rows: dict[str, int]) -> None:
        """Everything up to seq has been appended: so many rows of each table."""
        ...

    def close_streams(self) -> None: ...

    def add_file(self, data: bytes) -> str:
        """Bytes that rows name by the sha256 that is given back."""
        ...


class Collector:
    """Everything that happens, in batches, to a sink; what the sink raises is raised here later.

    module_of: (mm, pc) -> modules.module, asked for every new block of code.
    """

    def __init__(
        self,
        sink: Sink,
        module_of: Callable[[int, int], int | None] = lambda mm, pc: None,
        thresholds: Thresholds = Thresholds(),
    ) -> None:
        self.module_of = module_of
        self._sink = sink
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
        self._names = {name: frozenset(table.names) for name, table in TABLES.items()}
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._last_seq = 0
        self._thresholds = thresholds
        self._next_mark = time.monotonic() + thresholds.mark_seconds
        self._inputs: dict[tuple[str, str, int], int] = {}
        self._writer = _Writer(sink)

    def row(self, table: str, /, **columns: Any) -> None:
        """One row; columns left out are null, kinds are words of the vocabulary."""
        if not columns.keys() <= self._names[table]:
            raise ValueError(f"{table} has no column {min(columns.keys() - self._names[table])}")
        self._rows[table].append(columns)
        self._last_seq = max(self._last_seq, columns["seq"])
        self._waiting_rows += 1
        if "bytes" in columns:
            self._waiting_bytes += len(columns["bytes"])
        most = self._thresholds
        if self._waiting_rows >= most.rows or self._waiting_bytes >= most.bytes:
            self._flush_rows()

    def drain(self, machine: Buffers) -> None:
        """Take what waits in the executor's buffers: at STOP_FLUSH, and before `seal`."""
        for name in CORE_TABLES:
            if rows := machine.pending(name):
                columns = machine.drain(name)
                self._last_seq = max(self._last_seq, columns["seq"][rows - 1])
                modules = self._modules(columns) if name == "code" else None
                self._writer.put(name, lambda c=columns, n=name, m=modules: core_batch(n, c, m))
        if time.monotonic() >= self._next_mark:
            self.mark()

    def mark(self) -> None:
        """Make what was drained so far safe from kill -9."""
        self._flush_rows()
        self._writer.put_mark(self._last_seq)
        self._next_mark = time.monotonic() + self._thresholds.mark_seconds

    def tick(self, machine: Buffers) -> None:
        """Call it now and then: when a mark is due it drains, and marks."""
        if time.monotonic() >= self._next_mark:
            self.drain(machine)

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        """The number of a file that the guest saw: the same for the same path, bytes and mode."""
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
        """Store bytes that the run needs; their sha256."""
        return self._sink.add_file(data)

    def finish(self) -> None:
        """Everything has happened: wait until the sink has it."""
        self._flush_rows()
        self._writer.close()

    def _modules(self, columns: dict[str, memoryview]) -> list[int | None]:
        return [self.module_of(mm, pc) for mm, pc in zip(columns["mm"], columns["pc"], strict=True)]

    def _flush_rows(self) -> None:
        for name, rows in self._rows.items():
            if rows:
                self._rows[name] = []
                self._writer.put(name, lambda n=name, r=rows: to_batch(TABLES[n], r))
        self._waiting_rows = self._waiting_bytes = 0


class Recorder(Collector):
    """Records into `directory`.partial until `seal` makes it `directory`.

    Raises CannotWrite if the directory exists (without force) or cannot be made; later calls raise
    it when the disk is full. What was written until then stays in RUN.partial.
    """

    def __init__(
        self,
        directory: Path,
        *,
        force: bool = False,
        module_of: Callable[[int, int], int | None] = lambda mm, pc: None,
        thresholds: Thresholds = Thresholds(),
    ) -> None:
        self._partial = Partial.create(directory, force)
        self._force = force
        super().__init__(self._partial, module_of, thresholds)

    def begin(self, manifest: Manifest) -> None:
        """Keep what is known of the run so far, so that it can be recovered after a kill -9."""
        self._partial.keep(manifest)

    def plugin(self, name: str, table: pa.Table) -> PluginEntry:
        """Store a plugin's table: its entry in the manifest."""
        return self._partial.add_plugin(name, table)

    def seal(self, manifest: Manifest) -> Path:
        """The finished run directory: rows in seq order, Parquet, hashes, manifest last, renamed.

        manifest: without tables. Raises CannotWrite; the recording then stays in RUN.partial.
        """
        self.finish()
        self._partial.keep(manifest)
        self._partial.mark(self._last_seq, self._writer.rows, final=True)
        return self._partial.seal(manifest, self._writer.rows, self._force)

    def abandon(self, machine: Buffers | None = None) -> None:
        """After an error of ours: what was recorded stays in RUN.partial and can be recovered.

        Without the machine, what its buffers hold is lost, and all that came after the last mark.
        """
        try:
            if machine:
                self.drain(machine)
                self.mark()
            self._writer.close()
        except CannotWrite:
            self._writer.stop()

    def discard(self) -> None:
        """The program never began: nothing stays."""
        self._writer.stop()
        self._partial.discard()


class NullRecorder:
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.module_of: Callable[[int, int], int | None] = lambda mm, pc: None
        self._inputs: dict[tuple[str, bytes, int], int] = {}

    def begin(self, manifest: Manifest) -> None:
        pass

    def row(self, table: str, /, **columns: Any) -> None:
        pass

    def drain(self, machine: Buffers) -> None:
        for name in CORE_TABLES:
            if machine.pending(name):
                machine.drain(name)

    def tick(self, machine: Buffers) -> None:
        pass

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        return self._inputs.setdefault((guest_path, data, mode), len(self._inputs) + 1)

    def file(self, data: bytes) -> str:
        return ""

    def abandon(self, machine: Buffers | None = None) -> None:
        pass


class _MakeBatch(Protocol):
    def __call__(self) -> pa.RecordBatch: ...


class _Writer:
    """The second thread: makes batches and gives them to the sink, in the order they came."""

    def __init__(self, sink: Sink) -> None:
        self.rows: dict[str, int] = {}  # written so far
        self._sink = sink
        self._queue: queue.Queue[tuple[str, _MakeBatch] | int | None] = queue.Queue(_QUEUE)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="shstk-writer", daemon=True)
        self._thread.start()

    def put(self, table: str, make: _MakeBatch) -> None:
        self._raise()
        self._queue.put((table, make))

    def put_mark(self, seq: int) -> None:
        self._raise()
        self._queue.put(seq)

    def close(self) -> None:
        """Wait until everything is written. Raises what went wrong."""
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
            if self._error:
                continue  # keep the queue moving until the first thread sees the error
            try:
                self._do(item)
            except Exception as e:
                self._error = e
        try:
            self._sink.close_streams()
        except Exception as e:
            self._error = self._error or e

    def _do(self, item: tuple[str, _MakeBatch] | int) -> None:
        if isinstance(item, int):
            self._sink.mark(item, self.rows)
            return
        table, make = item
        batch = make()
        self._sink.append(table, batch)
        self.rows[table] = self.rows.get(table, 0) + batch.num_rows


def core_batch(
    table: str, columns: dict[str, memoryview], modules: list[int | None] | None = None
) -> pa.RecordBatch:
    """A drained buffer as a batch, without copying what has no sentinels.

    The executor has no nulls: what is null is told by `fault` 255, `rd` 255, `mem_size` 0 and by
    the kind of a cfi row. modules: the module column of code rows.
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


# Kinds whose address, or operand, means something (the executor fills the others with 0).
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
    """The values, not copied; null where the tag (u8) of the row says so.

    By a table of 256 entries: Arrow's comparisons of bytes cost several times as much.
    """
    raw = tags.buffers()[1].to_pybytes()[: len(tags)]
    found = raw.translate(bytes(map(valid, range(256))))
    if 0 not in found:
        return values
    if 1 not in found:
        return pa.nulls(len(values), values.type)
    mask = pa.Array.from_buffers(pa.uint8(), len(tags), [None, pa.py_buffer(found)])
    validity = mask.cast(pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(values.type, len(values), [validity, values.buffers()[1]])
