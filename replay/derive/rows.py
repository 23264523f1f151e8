"""Rows of the small tables as typed records, in seq order, findable by task and time.

Large tables (cfi, all of syscalls, flow) stay Polars frames; these are the few rows that folds over
a task's life need.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar

import polars as pl

from shstk.schemas.syscalls import SYSCALLS, name_of

if TYPE_CHECKING:
    from shstk.replay.run import Run


def called(*names: str) -> pl.Expr:
    """Whether a row of syscalls is one of these calls."""
    return pl.col("nr").is_in([SYSCALLS[name].number for name in names])


@dataclass(frozen=True, slots=True)
class Area:
    """A range of addresses, bytes."""

    base: int
    size: int

    @property
    def top(self) -> int:
        return self.base + self.size

    def overlaps(self, other: Area) -> bool:
        return self.base < other.top and other.base < self.top

    def holds(self, address: int) -> bool:
        return self.base <= address < self.top

    def minus(self, other: Area) -> tuple[Area, ...]:
        """What is left of this area: zero, one or two areas."""
        pieces = (
            Area(self.base, min(self.top, other.base) - self.base),
            Area(max(self.base, other.top), self.top - max(self.base, other.top)),
        )
        return tuple(p for p in pieces if p.size > 0) if self.overlaps(other) else (self,)

    def __str__(self) -> str:
        return f"{self.base:#x}+{self.size:#x}"


@dataclass(frozen=True, slots=True)
class Event:
    """A row of task_events."""

    seq: int
    tid: int | None
    mm: int | None
    kind: str
    ssp: int | None
    addr: int | None
    value: int | None
    status: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of clones."""

    seq: int
    tid: int | None
    mm: int | None
    api: str
    seq_end: int | None
    flags: int
    stack_size: int
    set_tid: int | None
    child_tid: int | None
    ret: int | None

    @property
    def child(self) -> int | None:
        """The child's tid, from the return value if a source does not record it."""
        return self.ret if self.child_tid is None and self.ret and self.ret > 0 else self.child_tid


@dataclass(frozen=True, slots=True)
class Call:
    """A row of syscalls. An argument that was not observed is None: of a strace, an address for
    which it prints what is there (see Facts.calls)."""

    seq: int
    tid: int | None
    mm: int | None
    seq_end: int | None
    nr: int
    a0: int
    a1: int
    a2: int
    a3: int
    a4: int
    ret: int | None
    outcome: str
    ssp_entry: int | None
    ssp_exit: int | None

    @property
    def name(self) -> str:
        return name_of(self.nr)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A row of mappings."""

    seq: int
    tid: int | None
    mm: int | None
    op: str
    during: int | None
    hint: int | None
    start: int | None
    length: int
    old_start: int | None
    old_length: int | None
    flags: int | None
    shadow_stack: bool
    ret: int
    prot: int | None = None
    input: int | None = None
    offset: int | None = None

    @property
    def done(self) -> bool:
        return self.ret >= 0 or self.ret < -4095

    @property
    def area(self) -> Area:
        return Area(self.start or 0, self.length)


@dataclass(frozen=True, slots=True)
class Stood:
    """A row of dump_areas."""

    seq: int
    tid: int | None
    mm: int | None
    start: int
    length: int
    prot: int
    shadow_stack: str | None
    name: str | None
    input: int | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class Thread:
    """A row of dump_threads, as far as a history needs it."""

    seq: int
    tid: int
    mm: int | None


@dataclass(frozen=True, slots=True)
class Copied:
    """A row of mms made by fork."""

    seq: int
    tid: int | None
    mm: int | None
    from_mm: int | None


_Data: TypeAlias = bytes  # which is the name of a column


@dataclass(frozen=True, slots=True)
class Transfer:
    """A row of kernel_memory. size: of its bytes. held: they, or how to read them again: a run may
    have more of them than memory."""

    seq: int
    tid: int | None
    mm: int | None
    during: int | None
    op: str
    addr: int
    size: int
    held: _Data | Callable[[], _Data]

    @property
    def bytes(self) -> _Data:
        return self.held() if callable(self.held) else self.held


@dataclass(frozen=True, slots=True)
class Signal:
    """A row of signals."""

    seq: int
    tid: int | None
    mm: int | None
    kind: str
    signo: int | None
    code: int | None
    si_addr: int | None
    handler: int | None
    frame: int | None
    ss_ptr: int | None
    token_addr: int | None
    token_value: int | None
    ssp_before: int | None
    ssp_after: int | None
    alt_stack: bool | None
    sigreturn_seq: int | None


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of faults."""

    seq: int
    tid: int | None
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


class _Row(Protocol):
    @property
    def seq(self) -> int: ...
    @property
    def tid(self) -> int | None: ...


R = TypeVar("R", bound=_Row)


class Rows(Generic[R]):
    """Records of one table, in seq order, and by task."""

    def __init__(self, rows: Iterable[R]) -> None:
        self._all = sorted(rows, key=_seq)
        self._by_tid: dict[int | None, list[R]] = {}
        for row in self._all:
            self._by_tid.setdefault(row.tid, []).append(row)

    def __iter__(self) -> Iterator[R]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def of(self, tid: int | None, after: int, until: int | None) -> Sequence[R]:
        """A task's rows with after < seq <= until (None: to the end)."""
        rows = self._by_tid.get(tid, ())
        low = bisect_right(rows, after, key=_seq)
        high = len(rows) if until is None else bisect_right(rows, until, key=_seq)
        return rows[low:high]

    def between(self, after: int, before: int) -> Sequence[R]:
        """The rows of all tasks with after < seq < before."""
        low = bisect_right(self._all, after, key=_seq)
        return self._all[low : bisect_left(self._all, before, key=_seq)]

    def since(self, tid: int | None, seq: int) -> Iterator[R]:
        """A task's rows from seq on."""
        rows = self._by_tid.get(tid, ())
        return islice(rows, bisect_left(rows, seq, key=_seq), None)

    def last(self, tid: int | None, seq: int) -> R | None:
        """A task's last row until seq."""
        rows = self._by_tid.get(tid, ())
        passed = bisect_right(rows, seq, key=_seq)
        return rows[passed - 1] if passed else None


_seq: Final = attrgetter("seq")
_AT_ONCE: Final = 1 << 16  # rows
_HELD: Final = 16 << 10  # bytes of a row that are kept: more than any frame of a signal has


def transfers(run: Run) -> Rows[Transfer]:
    """The rows of kernel_memory."""
    return Rows(_transfers(run))


def _transfers(run: Run) -> Iterator[Transfer]:
    names, row = ("seq", "tid", "mm", "during", "op", "addr"), 0
    size, data = pl.col("bytes").bin.size(), pl.col("bytes")
    for batch in run.batches("kernel_memory"):
        part = pl.DataFrame(batch)
        told = part.select(*names, size.alias("size"), pl.when(size <= _HELD).then(data))
        for seq, tid, mm, during, op, addr, length, held in _records(told):
            again = partial(_bytes, run, row) if held is None else held
            yield Transfer(seq, tid, mm, during, op, addr, length, again)
            row += 1


def _bytes(run: Run, row: int) -> bytes:
    data: bytes = run.scan("kernel_memory").select("bytes").slice(row, 1).collect().item()
    return data


def read(frame: pl.DataFrame | pl.LazyFrame, kind: type[R]) -> Rows[R]:
    """The frame's rows as records of `kind`, whose fields are the columns."""
    names = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    return Rows(kind(*row) for row in _records(frame.lazy().select(names).collect()))


def _records(frame: pl.DataFrame) -> Iterator[tuple[Any, ...]]:
    """The rows. Most values are of few, such as tids: those that are equal are one object, so that
    rows take half the memory."""
    for part in frame.iter_slices(_AT_ONCE):
        yield from zip(*map(_values, part.iter_columns()), strict=True)


def _values(column: pl.Series) -> list[Any]:
    values = column.to_list()
    if column.n_unique() * 2 > len(values):
        return values
    known: dict[Any, Any] = {}
    return list(map(known.setdefault, values, values))
