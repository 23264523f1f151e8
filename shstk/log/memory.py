"""The bytes that a run holds of what each system call read and wrote."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Protocol

import polars as pl

if TYPE_CHECKING:
    from shstk.replay.run import Run

MOST: Final = 4096  # bytes of one access that a line could need: a path has no more
Pieces = list[tuple[int, bytes]]


class Memory(Protocol):
    """What the pointers of a system call point to. call: its seq."""

    def read(self, call: int, addr: int, n: int) -> bytes | None:
        """n bytes at addr, as the kernel reads them in the call; None if some are not known."""

    def wrote(self, call: int, addr: int, n: int) -> bytes | None:
        """n bytes at addr, as the kernel left them after the call."""

    def updated(self, call: int, addr: int, n: int) -> bytes | None:
        """n bytes at addr as the kernel read them, with what it wrote there."""

    def string(self, call: int, addr: int) -> bytes | None:
        """What the kernel reads at addr up to a NUL."""

    def printed(self, tid: int | None, begin: int, end: int | None) -> bytes:
        """What a task wrote to standard output or error between two seqs."""


class Held:
    """The memory of the system calls from seq `low` to `high`, as far as the run holds it.

    more: further rows of kernel_memory.
    """

    def __init__(self, run: Run, low: int, high: int, more: pl.LazyFrame | None = None) -> None:
        self._reads: dict[int, Pieces] = {}
        self._writes: dict[int, Pieces] = {}
        columns = ("during", "op", "addr", pl.col("bytes").bin.slice(0, MOST))
        tables = [run.scan("kernel_memory"), *([] if more is None else [more])]
        kept = pl.concat(
            rows.filter(pl.col("during").is_between(low, high)).select(columns) for rows in tables
        )
        for during, op, addr, data in kept.collect().iter_rows():
            if op != "swap":
                by_call = self._writes if op == "write" else self._reads
                by_call.setdefault(during, []).append((addr, data))
        self._printed: dict[int | None, list[tuple[int, bytes]]] = {}
        # What a write to standard output had is in no other table. A call lasts a while.
        printed = run.scan("output").filter(pl.col("seq") >= low)
        printed = printed.select("tid", "seq", pl.col("bytes").bin.slice(0, MOST))
        for tid, seq, data in printed.collect().iter_rows():
            self._printed.setdefault(tid, []).append((seq, data))

    def read(self, call: int, addr: int, n: int) -> bytes | None:
        return _at(self._reads.get(call, ()), addr, n)

    def wrote(self, call: int, addr: int, n: int) -> bytes | None:
        return _at(self._writes.get(call, ())[::-1], addr, n)

    def updated(self, call: int, addr: int, n: int) -> bytes | None:
        data = self.read(call, addr, n)
        if data is None:
            return self.wrote(call, addr, n)
        for start, wrote in self._writes.get(call, ()):
            if addr <= start and start + len(wrote) <= addr + n:
                data = data[: start - addr] + wrote + data[start - addr + len(wrote) :]
        return data

    def string(self, call: int, addr: int) -> bytes | None:
        found = [data for at, data in self._reads.get(call, ()) if at == addr]
        return found[-1] if found else None

    def in_order(self, call: int) -> list[bytes]:
        return [data for _, data in self._reads.get(call, ())]

    def initial_stack(self, call: int) -> bytes | None:
        """What an execve wrote last: argc, the pointers, the auxiliary vector."""
        wrote = self._writes.get(call)
        return wrote[-1][1] if wrote else None

    def printed(self, tid: int | None, begin: int, end: int | None) -> bytes:
        rows = self._printed.get(tid, [])
        at = bisect_left(rows, (begin, b""))
        parts = []
        while at < len(rows) and (end is None or rows[at][0] <= end):
            parts.append(rows[at][1])
            at += 1
        return b"".join(parts)


def _at(pieces: Pieces | tuple[()], addr: int, n: int) -> bytes | None:
    for start, data in pieces:
        if start <= addr and addr + n <= start + len(data):
            return data[addr - start : addr - start + n]
    return None
