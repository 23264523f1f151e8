"""What a plugin is: a class that looks on while a guest runs (docs/plugins.md).

It says in `wants` which rows it is to get, in Arrow batches, and it is called on what it has a
method for. It sees everything and changes nothing: the guest, and the run's tables, are the same
with and without it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_END: Final = 2**64


@dataclass(frozen=True)
class Rows:
    """The rows of a table of docs/schema.md, with its columns: `on_rows(table, batch)`."""

    table: str


@dataclass(frozen=True)
class Blocks:
    """Which basic blocks ran, one row each time: `on_blocks(batch)`.

    Those that begin in [start, end). Columns: seq u64, tid u32, mm u32, block u32, pc u64 (its
    first instruction), length u32 (bytes), instructions u32, module u32 or null (modules.module).
    A row says that the block was entered; a fault may have ended it early.
    """

    start: int = 0
    end: int = _END


@dataclass(frozen=True)
class Instructions:
    """Each instruction that retired, and each ecall: `on_instructions(batch)`.

    Those with start <= pc < end. Columns are those of the table insn: seq, tid, mm, pc u64,
    word u32, rd u8, rd_value u64, mem_addr u64, mem_value u64, mem_size u8, ssp u64.
    """

    start: int = 0
    end: int = _END


@dataclass(frozen=True)
class Memory:
    """Each access of an instruction to memory: `on_memory(batch)`.

    Those that touch a byte of [start, end); reads, writes: which kinds (one that does both, such as
    an AMO, comes for either). Columns: seq u64, tid u32, mm u32, pc u64, word u32, addr u64,
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
    """A system call. `on_syscall` gets it at the entry, `on_return` again with how it ended."""

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
    data: bytes  # the file; empty if it is no ELF


class View:
    """The guest, to be looked at while a callback runs. Nothing here changes it.

    In `on_syscall`, `on_return` and `on_fault` it stands where the event is; in the others where
    the batch ends.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    @property
    def icount(self) -> int:
        """Instructions of the whole run so far."""
        return self._kernel.machine.icount

    def read(self, mm: int | None, addr: int, length: int) -> bytes | None:
        """Bytes of an address space; None if one of them is not mapped, or mm has ended."""
        if mm not in self._kernel.mms:
            return None
        return self._kernel.mms[mm].space.read(addr, length, True)

    def read_string(self, mm: int | None, addr: int, limit: int = 4096) -> bytes | None:
        """Up to the first NUL, without it, or `limit` bytes; None where that is not readable."""
        if mm not in self._kernel.mms:
            return None
        return self._kernel.mms[mm].space.read_cstr(addr, limit)

    def registers(self, tid: int) -> list[int]:
        """x0 to x31 of a task. KeyError if there is none."""
        return self._kernel.tasks[tid].hart.regs()

    def pc(self, tid: int) -> int:
        return self._kernel.tasks[tid].hart.pc

    def ssp(self, tid: int) -> int:
        return self._kernel.tasks[tid].hart.ssp


class Plugin:
    """Derive from it, say what you want, and define the methods that you want to be called.

    The parameters of `__init__` are the plugin's arguments: `--plugin module:Class,key=value` gives
    key="value", made an int, float, bool or Path where the parameter is annotated so. The first
    line of the docstring is what lists show.
    """

    name: str = ""  # of its table; by default the class's name, as_words
    wants: Sequence[Want] = ()
    every: int = 2**18  # instructions between two deliveries of batches, at most
    guest: View  # from the first callback on
    stopped: str | None = None  # why `stop` was called

    def __init_subclass__(cls) -> None:
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).strip("_").lower()

    def on_rows(self, table: str, batch: pa.RecordBatch) -> None:
        """Rows of a table that was wanted by `Rows`."""

    def on_blocks(self, batch: pa.RecordBatch) -> None:
        """Blocks that ran, wanted by `Blocks`."""

    def on_instructions(self, batch: pa.RecordBatch) -> None:
        """Instructions, wanted by `Instructions`."""

    def on_memory(self, batch: pa.RecordBatch) -> None:
        """Accesses to memory, wanted by `Memory`."""

    def on_syscall(self, call: Syscall) -> None:
        """A task enters the kernel; nothing of the call has been done."""

    def on_return(self, call: Syscall) -> None:
        """The end of a call that `on_syscall` saw begin."""

    def on_fault(self, fault: Fault) -> None:
        """An exception that becomes a signal; the signal is not delivered yet."""

    def on_module(self, module: Module) -> None:
        """A file was mapped as code: the program, its ld.so, its libraries."""

    def finish(self) -> pa.Table | None:
        """The plugin's table, once the guest has ended: anything that pyarrow.table takes."""
        return None

    def summary(self) -> str:
        """A few lines for the terminal, after `finish`."""
        return ""

    def stop(self, reason: str) -> None:
        """End the run: no task executes another instruction once this callback has returned."""
        self.stopped = reason
