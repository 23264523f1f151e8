"""A recorder in front of the run's own that also collects the rows for plugins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from shstk.schemas.tables import TRACED
from shstk.schemas.values import TableRow, Values, by_name, in_order
from shstk.tracer.recording.kernelrows import drained_batch, row_buffer
from shstk.tracer.recording.recorder import Buffers, core_batch, trace_bits

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Recorder


class Tee:
    """The recorder that the kernel uses. It passes everything on to `inner`, the run's recorder.

    recorded: the _core.TRACE_* bits of `inner`. tables: the tables whose rows `take` returns.
    at_once: the tables whose rows are passed to `tell` immediately, with the bytes of their file.
    """

    keeps = True

    def __init__(
        self,
        inner: Recorder,
        recorded: int,
        tables: set[str],
        at_once: frozenset[str],
        tell: Callable[[str, dict[str, Any], bytes], None],
    ) -> None:
        self._inner = inner
        self._at_once = at_once
        self._tell_plugins = tell
        self._rows = {table: row_buffer(table) for table in tables - {*TRACED}}
        self._tap = _Tap(recorded, tables, lambda mm, pc: inner.module_of(mm, pc))
        self._inputs = 0  # the highest input number so far
        self._files: dict[int, bytes] = {}
        self._early: list[tuple[str, dict[str, Any]]] | None = []  # passed on by `replay`

    @property
    def module_of(self) -> Callable[[int, int], int | None]:
        return self._inner.module_of

    @module_of.setter
    def module_of(self, given: Callable[[int, int], int | None]) -> None:
        self._inner.module_of = given

    def row(self, table: str, /, **columns: Any) -> None:
        self.add(table, in_order(table, columns))

    def add(self, table: str, values: Values) -> None:
        self._inner.add(table, values)
        if table in self._rows:
            self._rows[table].add(values)
        if table in self._at_once:
            columns = by_name(table, values)
            if self._early is not None:
                self._early.append((table, columns))
            else:
                self._tell(table, columns)

    @property
    def open_rows(self) -> Callable[[], Iterable[TableRow]]:
        return self._inner.open_rows

    @open_rows.setter
    def open_rows(self, given: Callable[[], Iterable[TableRow]]) -> None:
        self._inner.open_rows = given

    def replay(self) -> None:
        """Pass on the rows of the time before a guest was attached."""
        early, self._early = self._early or [], None
        for table, columns in early:
            self._tell(table, columns)

    def _tell(self, table: str, columns: dict[str, Any]) -> None:
        file = self._files.get(columns["input"], b"") if table == "modules" else b""
        self._tell_plugins(table, columns, file)

    def unrecord(self, bits: int) -> None:
        """`inner` needs no more rows of these _core.TRACE_* bits."""
        self._tap.unrecord(bits)

    def drain(self, machine: Buffers) -> None:
        self._tap.machine = machine
        self._inner.drain(self._tap)
        self._tap.rest()

    def tick(self, machine: Buffers) -> None:
        self._tap.machine = machine
        self._inner.tick(self._tap)

    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int:
        number = self._inner.input(guest_path, data, mode, seq)
        if "inputs" in self._rows and number > self._inputs:  # `inner` writes the row itself
            sha256 = hashlib.sha256(data).hexdigest()
            row = {"input": number, "guest_path": guest_path, "sha256": sha256, "mode": mode}
            row |= {"seq": seq, "size": len(data), "first_seq": seq}
            self._rows["inputs"].add(in_order("inputs", row))
        self._inputs = max(self._inputs, number)
        if "modules" in self._at_once and data.startswith(b"\x7fELF"):
            self._files[number] = data
        return number

    def file(self, data: bytes) -> str:
        return self._inner.file(data)

    def take(self, machine: Buffers) -> dict[str, pa.RecordBatch]:
        """The rows since the last call, of the wanted tables that have any."""
        self._tap.machine = machine
        self._tap.wanted_only = True
        self._inner.drain(self._tap)
        self._tap.rest()
        self._tap.wanted_only = False
        batches = self._tap.take()
        for table, buffer in self._rows.items():
            if rows := buffer.rows:
                batches[table] = drained_batch(table, rows, buffer.drain())
        return batches


class _Tap:
    """The machine's buffers for the run's recorder: the rows that it drains are also kept here.

    Tables that are traced for plugins only are hidden from it.
    """

    machine: Buffers

    def __init__(
        self, recorded: int, tables: set[str], module_of: Callable[[int, int], int | None]
    ) -> None:
        self._recorded = {table for table in TRACED if recorded & trace_bits({table})}
        self.wanted_only = False  # skip tables that no plugin wants: larger batches are faster
        self._module_of = module_of
        self._kept: dict[str, list[pa.RecordBatch]] = {t: [] for t in TRACED if t in tables}

    def pending(self, table: str) -> int:
        seen = table in self._recorded and (table in self._kept or not self.wanted_only)
        return self.machine.pending(table) if seen else 0

    def drain(self, table: str) -> dict[str, memoryview]:
        columns = self.machine.drain(table)
        if table in self._kept:
            modules = None
            if table == "code":
                keys = zip(columns["mm"], columns["pc"], strict=True)
                modules = [self._module_of(mm, pc) for mm, pc in keys]
            self._kept[table].append(core_batch(table, columns, modules))
        return columns

    def unrecord(self, bits: int) -> None:
        self._recorded = {t for t in self._recorded if not bits & trace_bits({t})}

    def rest(self) -> None:
        """Drain the tables that are hidden from the run's recorder."""
        for table in TRACED:
            if table not in self._recorded and self.machine.pending(table):
                self.drain(table)

    def take(self) -> dict[str, pa.RecordBatch]:
        taken = {}
        for table, kept in self._kept.items():
            if kept:
                taken[table] = pa.concat_batches(kept) if len(kept) > 1 else kept[0]
                kept.clear()
        return taken
