"""What the importer knows of the recorded program while it reads the events in order."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Protocol

from shstk.tracer.elf import Image
from shstk.tracer.importers.rows import Row, Rows
from shstk.tracer.realkernel.events import Access, Call, Head, Return, Trap

VM_SHADOW_STACK: Final = 1 << 37  # VM_HIGH_ARCH_5 of a 64-bit riscv kernel


def s64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def s32(value: int) -> int:
    value &= 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value


def u32_of(value: int) -> int:
    return value & 0xFFFF_FFFF


def number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "little")


def text(data: bytes | None) -> str:
    return (data or b"").split(b"\0")[0].decode("utf-8", "replace")


@dataclass
class File:
    """A file of the guest whose bytes are known. number: of its `inputs` row, once it has one."""

    path: str
    data: bytes
    image: Image | None
    number: int | None = None


@dataclass
class Delivery:
    """A signal that is being delivered: from get_signal to the return of arch_do_signal. What it
    stores is a row after its own, so `transfers` (op, address, bytes) wait for that."""

    row: Row | None = None  # what its siginfo says
    token: tuple[int, int] | None = None  # address, word
    failed: bool = False
    alt: tuple[int, int] = (0, 0)  # the alternate stack: sp, size
    transfers: list[tuple[str, int, bytes]] = field(default_factory=list)


@dataclass
class Task:
    """A followed task. pc, sp, ssp: in user mode, as last seen."""

    pointer: int
    tid: int
    tgid: int
    mm: int | None = None
    mm_pointer: int = 0
    pc: int = 0
    sp: int = 0
    ssp: int = 0
    born: bool = False  # made, but it was not in user mode yet
    parent: int | None = None
    vfork_parent: int | None = None
    # The call it is in, and what goes with it.
    call: Row | None = None
    attempt: Row | None = None  # clones
    sigreturn: Row | None = None
    reads: list[tuple[int, bytes]] = field(default_factory=list)  # of user memory, in the call
    exec_done: Row | None = None
    execing: bool = False  # past the point of no return
    replaced: tuple[int, int | None] | None = None  # the old mm: its pointer and number
    # The end. killed: it is the one of its process that a signal kills.
    killed: bool = False
    exit: Row | None = None
    released: bool = False  # mm_release has returned, its address space is not dropped yet
    clear_child_tid: int = 0
    # The kernel's functions that it is inside of.
    open: list[Call] = field(default_factory=list)
    swap: list[Access] | None = None  # accesses inside of save_ or restore_user_shstk
    # Traps and signals.
    trap: Trap | None = None
    delivery: Delivery | None = None
    result: int = 0  # a0 when signals were looked at
    settled: tuple[Row, int] | None = None  # the call that a handler interrupts, and its result
    cfi: Row | None = None  # the last one, not yet known to be more than a first try
    word: int = 0  # the last such instruction, and where it is
    cfi_pc: int = 0

    def inside(self, *names: str) -> bool:
        return any(call.name in names for call in self.open)


@dataclass
class Process:
    """A thread group. dying: by do_group_exit; replacing: a thread of it is in exec."""

    dying: bool = False
    replacing: bool = False
    sent: dict[int, bytes] = field(default_factory=dict)  # signal -> siginfo


class Files(Protocol):
    def get(self, name: str) -> File | None:
        """The file of that name, without its directory, if its bytes are known."""
        ...


class Story:
    """The rows so far, the tasks and the address spaces. Handlers of events are functions of it."""

    def __init__(self, files: Files) -> None:
        self.rows = Rows()
        self.files = files
        self.tasks: dict[int, Task] = {}
        self.processes: dict[int, Process] = {}
        self.mms: dict[int, int] = {}  # mm_struct -> number
        self.mm_rows: dict[int, Row] = {}
        self.shadow: dict[int, list[tuple[int, int]]] = {}  # by number: shadow stacks' [start, end)
        self.first: Task | None = None
        self.running: int | None = None  # the tid that was last switched to
        self.why: dict[int, str] = {}  # why each task stopped running
        self.modules = 0
        self._code: list[
            tuple[int | None, int, int, File, int]
        ] = []  # mm, start, end, from, offset
        self._counted: dict[int, int] = {}  # by hart
        self._icount = 0
        self.boot_seq: int | None = None  # of `created`, while the first program is being loaded

    # Positions

    def count(self, head: Head, own: bool) -> None:
        """Take over how many instructions the event's hart has attempted since its last event.
        own: they were the program's."""
        if own:
            self._icount += head.icount - self._counted.get(head.hart, head.icount)
        self._counted[head.hart] = head.icount

    def uncounted(self) -> None:
        """The task attempted an instruction that the plugin has not counted."""
        self._icount += 1

    def instruction(self) -> int:
        return self.rows.instruction(self._icount)

    def step(self) -> int:
        """The seq of a step of the kernel, after the instructions counted so far."""
        if self._icount > self.rows.icount:
            self.rows.instruction(self._icount)
        return self.rows.step()

    # Rows

    def put(self, table: str, t: Task, **columns: object) -> Row:
        if "seq" not in columns:
            columns["seq"] = self.step()
        return self.rows.put(table, **{"tid": t.tid, "mm": t.mm} | columns)

    def event(self, t: Task, kind: str, **columns: object) -> Row:
        return self.put("task_events", t, **{"kind": kind, "ssp": t.ssp, "pc": t.pc} | columns)

    def during(self, t: Task) -> int | None:
        """The call or event that what happens now is a part of."""
        if t.delivery is not None:
            return None
        for row in (t.exit, t.call):
            if row is not None:
                seq: int = row["seq"]
                return seq
        return self.boot_seq if t is self.first else None

    def process(self, tgid: int) -> Process:
        return self.processes.setdefault(tgid, Process())

    # Address spaces

    def new_mm(self, pointer: int, tid: int, cause: str, source: int | None) -> int:
        mm = len(self.mm_rows) + 1
        self.mms[pointer] = mm
        self.shadow[mm] = list(self.shadow[source]) if cause == "fork" and source else []
        self.mm_rows[mm] = self.rows.put(
            "mms", seq=self.step(), tid=tid, mm=mm, from_mm=source, cause=cause, seq_end=None
        )
        return mm

    def end_mm(self, pointer: int) -> None:
        """Its last user has dropped it. Its memory may become another's."""
        mm = self.mms.pop(pointer, None)
        if mm is not None:
            self.mm_rows[mm]["seq_end"] = self.step()

    def add_code(self, mm: int | None, start: int, end: int, file: File, offset: int) -> None:
        self._code.append((mm, start, end, file, offset))

    def code_at(self, mm: int | None, pc: int) -> int | None:
        """The 4 bytes there, if they are of a known file: of the mm, or of that it is a fork of."""
        for space in (mm, self.mm_rows[mm]["from_mm"] if mm in self.mm_rows else None):
            for owner, start, end, file, offset in reversed(self._code):
                if owner == space and start <= pc < end:
                    return int.from_bytes(file.data[pc - start + offset :][:4], "little")
        return None

    def touches_shadow(self, mm: int | None, start: int, length: int) -> bool:
        areas = self.shadow.get(mm or 0, ())
        return any(low < start + length and start < high for low, high in areas)

    def by_kind(self, mm: int | None, start: int, end: int) -> list[tuple[int, int]]:
        """[start, end) in parts, each shadow stack or none."""
        areas = self.shadow.get(mm or 0, ())
        edges = {start, end, *(edge for area in areas for edge in area if start < edge < end)}
        return list(pairwise(sorted(edges)))

    def cut_shadow(self, mm: int | None, start: int, end: int) -> None:
        """[start, end) is mapped no more, or as something else."""
        kept = []
        for low, high in self.shadow.get(mm or 0, ()):
            kept += [(a, b) for a, b in ((low, min(high, start)), (max(low, end), high)) if a < b]
        self.shadow[mm or 0] = kept


def read_back(t: Task, address: int, size: int) -> bytes:
    """What the kernel has read of user memory in the task's call, from `address` up to the first
    byte that it did not read."""
    found = b""
    while len(found) < size:
        at = address + len(found)
        for start, data in reversed(t.reads):
            if start <= at < start + len(data):
                found += data[at - start : at - start + size - len(found)]
                break
        else:
            break
    return found


def words(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(data) // 8}Q", data[: len(data) & ~7])


OnCall = Callable[[Story, Task, Call], None]
OnReturn = Callable[[Story, Task, Call, Return], None]
