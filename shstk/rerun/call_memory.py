"""The memory that system calls read, and what of files they wrote to it.

No table holds that: the run is executed again.
"""

from __future__ import annotations

from typing import Any, Final

from shstk.log.arguments import followed
from shstk.log.memory import MOST
from shstk.log.pointers import OF_FILES, reads_memory
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
        if call.name is not None and reads_memory(call.name):
            self._follow(call)

    def on_return(self, call: Syscall) -> None:
        if call.name in OF_FILES and call.ret is not None and call.ret > 0:
            self._follow(call)

    def _follow(self, call: Syscall) -> None:
        self._call = call
        args = {f"a{i}": value for i, value in enumerate(call.args)}
        row = {"seq": call.seq, "tid": call.tid, "nr": call.nr, "seq_end": call.seq_end}
        followed(row | {"ret": call.ret, **args}, self, MOST)
        if len(self._rows) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._file.append(to_batch(TABLES[_TABLE], self._rows))
            self._rows.clear()

    # What `followed` asks for: log.memory.Memory.

    def read(self, call: int, addr: int, n: int) -> bytes | None:
        return self._noted("read", addr, self.guest.read(self._call.mm, addr, n))

    updated = read

    def string(self, call: int, addr: int) -> bytes | None:
        return self._noted("read", addr, self.guest.read_string(self._call.mm, addr))

    def wrote(self, call: int, addr: int, n: int) -> bytes | None:
        if self._call.ret is None:
            return None  # the call has written nothing yet
        return self._noted("write", addr, self.guest.read(self._call.mm, addr, n))

    def printed(self, tid: int | None, begin: int, end: int | None) -> bytes:
        return b""

    def _noted(self, op: str, addr: int, data: bytes | None) -> bytes | None:
        call = self._call
        if data is not None and (op == "write" or call.ret is None):
            row = {"seq": call.seq_end or call.seq, "tid": call.tid, "mm": call.mm}
            self._rows.append(row | {"during": call.seq, "op": op, "addr": addr, "bytes": data})
        return data
