"""The rows that an importer gathers from a recording of something else."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pyarrow as pa

from shstk.schemas import seq
from shstk.schemas.errors import BadRecording
from shstk.schemas.rows import BadRow, to_batch
from shstk.schemas.tables import TABLES

Row = dict[str, Any]

BATCH: Final = 1 << 16  # rows of the executor's tables that wait as Python values


class Positions:
    """The positions of a run's rows, in the order in which they happened.

    An event that is an instruction of the guest begins a new icount; what the kernel does after it
    takes the steps of that icount. A source that doesn't see every instruction counts those that it
    sees.
    """

    def __init__(self) -> None:
        self.icount = 0
        self._step = 0

    def instruction(self, icount: int | None = None) -> int:
        """The seq of the next instruction. icount: where the source itself counts instructions; one
        that is not above the last is the last's next step, for a seq is never used twice."""
        if icount is not None and icount <= self.icount:
            return self.step()
        self.icount = self.icount + 1 if icount is None else icount
        self._step = 0
        return seq.pack(self.icount, 0)

    def step(self) -> int:
        """The seq of the kernel's next step."""
        self._step += 1
        return seq.pack(self.icount, self._step)


class Rows(Positions):
    """Rows of the schema's tables, in memory: they can be completed until the run is sealed."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, list[Row]] = {name: [] for name in TABLES}
        self._batches: dict[str, list[pa.RecordBatch]] = {name: [] for name in TABLES}

    def put(self, table: str, **columns: Any) -> Row:
        """Add a row. What is not known yet can be set in the row that is returned, until the run is
        sealed; a row of an executor's table (one with a `trace`) must be whole. Raises
        BadRecording."""
        rows = self._rows[table]
        rows.append(columns)
        if TABLES[table].trace and len(rows) >= BATCH:
            self._batches[table].append(packed(table, rows))
            self._rows[table] = []
        return columns

    def file(self, seq: int, path: str, data: bytes, **columns: Any) -> int:
        """Add a row of inputs, for a file of the guest whose bytes are known; its number."""
        number = len(self.of("inputs")) + 1
        self.put(
            "inputs",
            seq=seq,
            input=number,
            guest_path=path,
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
            mode=0o100755,
            first_seq=seq,
            **columns,
        )
        return number

    def of(self, table: str) -> list[Row]:
        """The rows of a table that the executor doesn't write."""
        assert TABLES[table].trace is None
        return self._rows[table]

    def tables(self) -> dict[str, pa.Table]:
        """The tables that have rows, in seq order. Raises BadRecording."""
        made = {}
        for name in TABLES:
            batches = self._batches[name]
            if rows := self._rows[name]:
                batches = [*batches, packed(name, rows)]
            if batches:
                made[name] = pa.Table.from_batches(batches).sort_by("seq").combine_chunks()
        return made


def packed(table: str, rows: list[Row]) -> pa.RecordBatch:
    """A value that fits no column is a damaged recording's: no machine has such a one."""
    try:
        return to_batch(TABLES[table], rows)
    except BadRow as error:
        raise BadRecording(f"the recording is damaged: {error}") from error
