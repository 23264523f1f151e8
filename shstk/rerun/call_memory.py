"""The memory that system calls read: no table holds it, so the run is executed again."""

from __future__ import annotations

from typing import Any, Final

from shstk.log.arguments import followed
from shstk.log.memory import MOST
from shstk.log.pointers import reads_memory
from shstk.plugin import Plugin, Syscall
from shstk.schemas.rows import to_batch
from shstk.schemas.tables import TABLES
from shstk.tracer.recording.tablefile import TableFile

_TABLE: Final = "kernel_memory"
_ROWS: Final = 2**12  # of a batch


class CallMemory(Plugin):
    """Writes a row of kernel_memory for each piece of memory that `log` needs to tell a call."""

    def __init__(self, file: TableFile) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []
        self._call: Syscall

    def on_syscall(self, call: Syscall) -> None:
        if call.name is None or not reads_memory(call.name):
            return
        self._call = call
        args = {f"a{i}": value for i, value in enumerate(call.args)}
        row = {
            "seq": call.seq,
            "tid": call.tid,
            "nr": call.nr,
            "seq_end": None,
            "ret": None,
            **args,
        }
        followed(row, self, MOST)
        if len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._file.append(to_batch(TABLES[_TABLE], self._rows))
            self._rows.clear()

    # What `followed` asks for: log.memory.Memory.

    def read(self, call: int, addr: int, n: int) -> bytes | None:
        return self._noted(addr, self.guest.read(self._call.mm, addr, n))

    updated = read

    def string(self, call: int, addr: int) -> bytes | None:
        return self._noted(addr, self.guest.read_string(self._call.mm, addr))

    def wrote(self, call: int, addr: int, n: int) -> None:
        """The call has written nothing yet."""

    def printed(self, tid: int | None, begin: int, end: int | None) -> bytes:
        return b""

    def _noted(self, addr: int, data: bytes | None) -> bytes | None:
        if data is not None:
            call = self._call
            row = {"seq": call.seq, "tid": call.tid, "mm": call.mm, "during": call.seq}
            self._rows.append(row | {"op": "read", "addr": addr, "bytes": data})
        return data
