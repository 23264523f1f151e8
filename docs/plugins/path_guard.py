"""An example of docs/plugins.md: files that a program opens, and what it stores meanwhile."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from shstk.plugin import Fault, Memory, Plugin, Rows, Syscall

_OPENS = {"open": 0, "openat": 1, "openat2": 1, "execve": 0}  # which argument is the path


class PathGuard(Plugin):
    """Which paths a program opens; the run ends at one that is forbidden.

    Arguments: forbid=PREFIX: stop before a path that begins so is opened.

    Table plugin_path_guard, a row an attempt: seq u64, tid u32, path str, ret i64 or null.
    """

    # What comes in batches: the rows of a table, and every store to memory.
    wants = (Rows("mappings"), Memory(reads=False))

    def __init__(self, forbid: str = "") -> None:
        self._forbid = forbid
        self._paths: dict[int, str] = {}  # of calls that have begun, by their seq
        self._opened: list[dict[str, object]] = []
        self._stored: Counter[int] = Counter()  # bytes, by task
        self._mapped = 0
        self._faults = 0

    def on_syscall(self, call: Syscall) -> None:
        """A call begins. The guest can be looked at: here, where the argument points to."""
        if call.name not in _OPENS:
            return
        raw = self.guest.read_string(call.mm, call.args[_OPENS[call.name]])
        path = (raw or b"?").decode(errors="replace")
        self._paths[call.seq] = path
        if self._forbid and path.startswith(self._forbid):
            self.stop(f"task {call.tid} opens {path}")

    def on_return(self, call: Syscall) -> None:
        """It has ended: call.ret is what the program gets, None if it got nothing."""
        if call.seq in self._paths:
            path = self._paths.pop(call.seq)
            self._opened.append({"seq": call.seq, "tid": call.tid, "path": path, "ret": call.ret})

    def on_fault(self, fault: Fault) -> None:
        self._faults += 1

    def on_rows(self, table: str, batch: pa.RecordBatch) -> None:
        """Rows of the tables that were asked for: here mappings only."""
        self._mapped += sum(row["op"] == "map" for row in batch.to_pylist())

    def on_memory(self, batch: pa.RecordBatch) -> None:
        """Up to some hundred thousand stores at once: count by column, not one by one."""
        by_task = pa.table({"tid": batch["tid"], "size": batch["size"]}).group_by("tid")
        for row in by_task.aggregate([("size", "sum")]).to_pylist():
            self._stored[row["tid"]] += row["size_sum"]

    def finish(self) -> pa.Table:
        """The table of the run. Its types are fixed, so that it is the same without any row."""
        schema = pa.schema(
            {"seq": pa.uint64(), "tid": pa.uint32(), "path": pa.string(), "ret": pa.int64()}
        )
        return pa.Table.from_pylist(self._opened, schema).sort_by("seq")

    def summary(self) -> str:
        """What the terminal shows at the end."""
        stored = ", ".join(f"task {tid} {size} bytes" for tid, size in sorted(self._stored.items()))
        return (
            f"{len(self._opened)} paths opened, {self._mapped} mappings, {self._faults} faults\n"
            f"  stored: {stored or 'nothing'}"
        )
