"""A run as a log in the style of strace, with clones, mappings, signals and ssp moves too.

Each table has a function from a row to a line (lines.py). The lines of all tables are merged by
seq.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.log.arguments import arguments, written_back
from shstk.log.calls import Calls
from shstk.log.lines import TELLERS, Row, syscall
from shstk.log.memory import Held
from shstk.replay.symbols import Symbols
from shstk.replay.views.tasks import tasks
from shstk.schemas import seq as positions
from shstk.schemas.errors import UsageError
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.units import show

if TYPE_CHECKING:
    from shstk.replay.run import Run

STRING: Final = 32  # bytes of a buffer that are shown, as by strace
_CALLS: Final = 2**16  # at a time, because their memory is held; each time the tables are searched
_SHOWN: Final = 20  # tasks that a hint names
_CLONES: Final = tuple(SYSCALLS[name].number for name in ("clone", "clone3"))


@dataclass(frozen=True)
class Line:
    """arguments: a system call's, by name. row: the row of the table."""

    seq: int
    tid: int | None
    table: str
    text: str
    row: Row = field(default_factory=dict, repr=False)
    arguments: Mapping[str, str] = field(default_factory=dict)

    def __lt__(self, other: Line) -> bool:
        # A clone has the seq of its system call and is listed below it.
        return (self.seq, self.table != "syscalls") < (other.seq, other.table != "syscalls")


@dataclass(frozen=True)
class Wanted:
    """Which events.

    tids, pids: only those of these tasks, and of the threads of these processes. calls: only these
    system calls. span: only from one seq to another. around, context: only `context`
    events before and after that seq. only: these tables; otherwise all but cfi.
    """

    tids: Collection[int] = ()
    pids: Collection[int] = ()
    calls: Calls | None = None
    span: tuple[int, int] | None = None
    around: int | None = None
    context: int = 10
    only: Collection[str] = ()

    @property
    def tables(self) -> list[str]:
        return list(self.only) or ["syscalls", *(t for t in TELLERS if t != "cfi")]


class _Log:
    def __init__(self, run: Run, wanted: Wanted, string: int, memory: pl.LazyFrame | None) -> None:
        self._run = run
        self._memory = memory
        self._wanted = wanted
        self._string = string
        self._tids = _tasks(run, wanted)
        self._symbols = Symbols(run)
        self._low: int | None
        self._high: int | None
        self._low, self._high = wanted.span or (None, None)
        if wanted.around is not None:
            self._low, self._high = self._window(wanted.around)

    def lines(self) -> Iterable[Line]:
        return heapq.merge(*(self._lines(table) for table in self._wanted.tables))

    def _rows(self, table: str) -> pl.LazyFrame:
        rows = self._run.scan(table)
        if self._tids is not None:
            rows = rows.filter(pl.col("tid").is_in(list(self._tids)))
        if self._low is not None:
            rows = rows.filter(pl.col("seq") >= self._low)
        if self._high is not None:
            rows = rows.filter(pl.col("seq") <= self._high)
        if table == "syscalls" and self._wanted.calls is not None:
            numbers, rest = self._wanted.calls
            meant = pl.col("nr").is_in(list(numbers))
            rows = rows.filter(~meant if rest else meant)
        return rows

    def _lines(self, table: str) -> Iterator[Line]:
        rows = self._rows(table)
        if table == "clones":
            rows = rows.filter(~pl.col("seq").is_in(self._told_clones()))
        if table == "syscalls":
            yield from self._calls(rows.collect())
            return
        for row in rows.collect().iter_rows(named=True):
            text = TELLERS[table](row) + self._place(table, row)
            yield Line(row["seq"], row["tid"], table, text, row)

    def _calls(self, rows: pl.DataFrame) -> Iterator[Line]:
        for part in rows.iter_slices(_CALLS):
            held = Held(self._run, part["seq"][0], part["seq"][-1], self._memory)
            for row in part.iter_rows(named=True):
                told = arguments(row, held, self._string)
                line = syscall(row, told, written_back(row, held))
                yield Line(row["seq"], row["tid"], "syscalls", line, row, told)

    def _told_clones(self) -> list[int]:
        """The clones whose system call shows their flags. clone3 reads them from memory, and an
        importer may not have seen the arguments."""
        calls = self._run.scan("syscalls").filter(
            pl.col("nr").is_in(_CLONES[:1]) & pl.col("a0").is_not_null()
        )
        return calls.select("seq").collect()["seq"].to_list()

    def _place(self, table: str, row: Row) -> str:
        """Function, file and line of the instruction, where it has a function."""
        if table not in ("cfi", "faults"):
            return ""
        place = self._symbols.at(row["mm"], row["pc"], row["seq"])
        return f"  in {place}" if place and place.symbol else ""

    def _window(self, around: int) -> tuple[int, int]:
        """The seqs of the first and last of `context` events on either side of a seq."""
        frames = [self._rows(table).select("seq") for table in self._wanted.tables]
        seqs, context = pl.concat(frames), self._wanted.context
        low = seqs.filter(pl.col("seq") < around).top_k(context, by="seq").collect()["seq"]
        high = seqs.filter(pl.col("seq") > around).bottom_k(context, by="seq").collect()["seq"]
        return (
            int(low.min()) if len(low) else around,  # type: ignore[arg-type]
            int(high.max()) if len(high) else around,  # type: ignore[arg-type]
        )


def tell(
    run: Run,
    wanted: Wanted = Wanted(),
    *,
    string: int = STRING,
    memory: pl.LazyFrame | None = None,
) -> Iterable[Line]:
    """The lines of a run, merged by seq. string: bytes of a buffer that are shown. memory: rows of
    kernel_memory besides those of the run, such as rerun/call_memory.py makes.

    Raises UsageError: the run has no such task, or ends before a place that is asked for.
    """
    if wanted.around is not None:
        run.must_reach(wanted.around, f"--around {positions.show(wanted.around)}")
    if wanted.span is not None:
        run.must_reach(wanted.span[0], f"--range {positions.show(wanted.span[0])}..")
    return _Log(run, wanted, string, memory).lines()


def _tasks(run: Run, wanted: Wanted) -> set[int] | None:
    """The tids that are wanted; None: all."""
    if not wanted.tids and not wanted.pids:
        return None
    processes: dict[int, set[int]] = {}
    if wanted.pids:
        for tid, pid in tasks(run).select("tid", "pid").iter_rows():
            processes.setdefault(pid, set()).add(tid)
    known: set[int] = set()
    for table in ("task_events", "syscalls", *TELLERS):
        known |= set(run.scan(table).select(pl.col("tid").unique()).collect()["tid"].drop_nulls())
    for what, asked, there in (
        ("task", wanted.tids, known),
        ("process", wanted.pids, set(processes)),
    ):
        for number in asked:
            if number not in there:
                some = " ".join(map(str, sorted(there)[:_SHOWN])) + " …" * (len(there) > _SHOWN)
                option, several = ("--tid", "tasks") if what == "task" else ("--pid", "processes")
                raise UsageError(
                    f"{option} {number}: the run has no such {what}", f"{several}: {some}"
                )
    return set(wanted.tids).union(*(processes[pid] for pid in wanted.pids))


def text(line: Line, seq_width: int = 14) -> str:
    tid = "-" if line.tid is None else str(line.tid)
    indent = "" if line.table == "syscalls" else "  "
    return f"{positions.show(line.seq):<{seq_width}} {tid:>6}  {indent}{line.text}"


def as_json(line: Line, run: Run) -> dict[str, Any]:
    """A line with its row's columns, each written by its unit."""
    units = run.units(line.table)
    told: dict[str, Any] = {
        "seq": positions.show(line.seq),
        "tid": line.tid,
        "table": line.table,
        "text": line.text,
    }
    if line.table == "syscalls":
        told["arguments"] = line.arguments
    told["fields"] = {
        name: show(units.get(name), value)
        for name, value in line.row.items()
        if name not in ("seq", "tid")
    }
    return told
