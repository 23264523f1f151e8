"""The plugin interface: a class that observes a guest while it runs (docs/plugins.md).

`wants` selects the rows that a plugin receives, in Arrow batches; events go to the methods that it
defines. A plugin can see everything and change nothing: the guest and the tables of the run are the
same with and without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pyarrow as pa

    from shstk.tracer.kernel.kernel import Kernel

_END: Final = 2**64


@dataclass(frozen=True)
class Rows:
    """The rows of a table of docs/schema.md, with its columns: `on_rows(table, batch)`."""

    table: str


@dataclass(frozen=True)
class Blocks:
    """The basic blocks that ran, one row per execution: `on_blocks(batch)`.

    Selects blocks that begin in [start, end). Columns: seq u64, tid u32, mm u32, block u32, pc u64
    (the first instruction), length u32 (bytes), instructions u32, module u32 or null
    (modules.module), ran u32 (its instructions that ran) and ran_bytes u32: fewer than the block
    has if a fault, a signal or a switch cut it. The last row of a batch counts in full.
    """

    start: int = 0
    end: int = _END


@dataclass(frozen=True)
class Instructions:
    """Each retired instruction and each ecall: `on_instructions(batch)`.

    Selects start <= pc < end. The columns are those of the table insn: seq, tid, mm, pc u64,
    word u32, rd u8, rd_value u64, mem_addr u64, mem_value u64, mem_size u8, ssp u64.
    """

    start: int = 0
    end: int = _END


@dataclass(frozen=True)
class Memory:
    """Each memory access of an instruction: `on_memory(batch)`.

    Selects accesses to a byte of [start, end). reads, writes: the kinds; an access that does both,
    such as an AMO, matches either. Columns: seq u64, tid u32, mm u32, pc u64, word u32, addr u64,
    size u8 (bytes), value u64 (loaded or stored), read bool, write bool, shadow_stack bool (by
    sspush, sspopchk or ssamoswap), ssp u64.
    """

    start: int = 0
    end: int = _END
    reads: bool = True
    writes: bool = True


Want = Rows | Blocks | Instructions | Memory


@dataclass(frozen=True)
class Syscall:
    """A system call: passed to `on_syscall` at the entry, and with the outcome to `on_return`."""

    seq: int
    tid: int
    mm: int | None
    nr: int
    name: str | None  # None: the number has no name
    args: tuple[int, int, int, int, int, int]  # a0..a5, raw
    pc: int  # of the ecall
    sp: int
    ssp: int
    seq_end: int | None = None
    outcome: str | None = None  # returned, no_return, killed, restarted, run_ended; None at entry
    ret: int | None = None  # a0: the result, or -errno; None unless it returned


@dataclass(frozen=True)
class Fault:
    """An exception, and the signal it became; null values as in the table faults."""

    seq: int
    tid: int
    mm: int | None
    pc: int
    word: int | None
    cause: int
    tval: int
    address: int | None
    expected: int | None
    found: int | None
    signo: int | None
    code: int | None
    si_addr: int | None


@dataclass(frozen=True)
class Module:
    """A file that was mapped as code. bias: address minus ELF virtual address."""

    seq: int
    mm: int
    module: int
    path: str
    bias: int
    build_id: str | None
    data: bytes  # the file; empty if it is not an ELF file


class View:
    """A read-only view of the guest, valid while a callback runs.

    In `on_syscall`, `on_return` and `on_fault` it shows the guest at the event; in other callbacks
    at the end of the batch.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def icount(self) -> int:
        """The number of instructions in the whole run so far."""
        return self._kernel.machine.icount

    def read(self, mm: int | None, addr: int, length: int) -> bytes | None:
        """Bytes of an address space; None if one of them is not mapped, or if the mm has ended."""
        if mm not in self._kernel.mms:
            return None
        return self._kernel.mms[mm].space.read(addr, length, True)

    def read_string(self, mm: int | None, addr: int, limit: int = 4096) -> bytes | None:
        """The bytes before the first NUL, at most `limit`; None if one of them is not readable."""
        if mm not in self._kernel.mms:
            return None
        return self._kernel.mms[mm].space.read_cstr(addr, limit)

    def registers(self, tid: int) -> list[int]:
        """x0 to x31 of a task. KeyError if there is no such task."""
        return self._kernel.tasks[tid].hart.regs()

    def pc(self, tid: int) -> int:
        return self._kernel.tasks[tid].hart.pc

    def ssp(self, tid: int) -> int:
        return self._kernel.tasks[tid].hart.ssp


class Plugin:
    """The base class: set `wants`, and define the methods to be called.

    The parameters of `__init__` are the arguments of the plugin: `--plugin module:Class,key=value`
    passes key="value", converted to int, float, bool or Path if the parameter is annotated so.
    Lists of plugins show the first line of the docstring.
    """

    name: str = ""  # name of its table; by default the name of the class, as_words
    wants: Sequence[Want] = ()
    every: int = 2**18  # maximum number of instructions between two deliveries of batches
    guest: View  # from the first callback on
    stopped: str | None = None  # the reason given to `stop`

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).strip("_").lower()

    def on_rows(self, table: str, batch: pa.RecordBatch) -> None:
        """Rows of a table, selected by `Rows`."""

    def on_blocks(self, batch: pa.RecordBatch) -> None:
        """Blocks that ran, selected by `Blocks`."""

    def on_instructions(self, batch: pa.RecordBatch) -> None:
        """Instructions, selected by `Instructions`."""

    def on_memory(self, batch: pa.RecordBatch) -> None:
        """Memory accesses, selected by `Memory`."""

    def on_syscall(self, call: Syscall) -> None:
        """A task enters the kernel; the call has not been executed yet."""

    def on_return(self, call: Syscall) -> None:
        """The end of a call that was passed to `on_syscall`."""

    def on_fault(self, fault: Fault) -> None:
        """An exception that becomes a signal; the signal is not delivered yet."""

    def on_module(self, module: Module) -> None:
        """A file was mapped as code: the program, its ld.so, its libraries."""

    def finish(self) -> pa.Table | None:
        """The plugin's table, after the guest has ended: anything that pyarrow.table accepts."""
        return None

    def summary(self) -> str:
        """A few lines for the terminal, after `finish`."""
        return ""

    def stop(self, reason: str) -> None:
        """End the run: no task executes another instruction after this callback returns."""
        self.stopped = reason
