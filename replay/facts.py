"""Everything a rule may read: the run's tables and what is derived from them, computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

import polars as pl

from shstk.replay.derive.code import Code
from shstk.replay.derive.fold import Fold
from shstk.replay.derive.gather import Gather, gathered
from shstk.replay.derive.handlings import Handling, handlings
from shstk.replay.derive.history import Cloned, History, Task
from shstk.replay.derive.instructions import wrong_motions
from shstk.replay.derive.law import Law, has_landing_pads, has_shadow_stacks, law_of
from shstk.replay.derive.nearest import Point, firsts
from shstk.replay.derive.pages import Visit, visits
from shstk.replay.derive.regions import Regions
from shstk.replay.derive.rows import (
    Attempt,
    Call,
    Copied,
    Event,
    Fault,
    Mapping,
    Rows,
    Signal,
    Thread,
    Transfer,
    called,
    read,
    transfers,
)
from shstk.replay.derive.slots import Loads, loads
from shstk.replay.derive.ssp_moves import moved_elsewhere, wrong_moves
from shstk.replay.derive.ssp_path import ssp_path, stretches
from shstk.replay.derive.stack_maps import StackMap, stack_maps
from shstk.replay.derive.stacks import Ledger, Stack
from shstk.replay.derive.trail import Steps, Trail, of_cfi, trail, walked
from shstk.replay.needs import unobservable, unobserved
from shstk.schemas.revisions import Revision
from shstk.schemas.selections import table_of
from shstk.schemas.tables import TABLES
from shstk.schemas.uapi import PAGE, PTRACE_TRACEME

if TYPE_CHECKING:
    from shstk.replay.rules.outcome import Rule
    from shstk.replay.run import Run

T = TypeVar("T")

# Tables that have rows if a program was loaded; handwritten runs need not have them.
_OF_EVERY_PROGRAM: Final = ("task_events", "syscalls", "mappings", "kernel_memory")
# Calls whose arguments decide what their result should be.
_JUDGED: Final = ("prctl", "map_shadow_stack")
# A task's state is derived from these.
STATE: Final = ("task_events[lifetimes]", "clones", "syscalls")


class Facts:
    """One run, judged by one revision's row under one expectation.

    row: the revision to judge by. expect: intent or revision. rules: by which it will be judged;
    what they gather from cfi is gathered together. Derived lists are in seq order.
    """

    def __init__(self, run: Run, row: Revision, expect: str, rules: Sequence[Rule] = ()) -> None:
        self.run = run
        self.row = row
        self.expect = expect
        self.law: Law = law_of(row, expect, run.manifest.abi)
        self._rules = rules
        self._gathered: dict[Callable[[Facts], Gather[Any]], Any] = {}
        self._missing: dict[str, str] = {}
        cpu, off = run.manifest.cpu, run.manifest.nousercfi
        self.supported = has_shadow_stacks(cpu, off, row)
        self.landing_pads = has_landing_pads(cpu, off, row)

    def recorded(self, table: str) -> bool:
        """Whether the table was recorded; it has no rows if nothing happened."""
        return not self.missing(table)

    def missing(self, need: str) -> str:
        """Why a table, or `table.column`, cannot be used: the table is missing, or rows lack a
        value; empty if it can."""
        if need not in self._missing:
            self._missing[need] = self._why_missing(need)
        return self._missing[need]

    def _why_missing(self, need: str) -> str:
        if why := unobservable(self.run.manifest.provenance, need):
            return why
        rows, _, column = need.partition(".")
        table = table_of(rows)
        if why := self.run.missing(table):
            return why
        height = self.run.scan(table).select(pl.len()).collect().item()
        if height:
            return unobserved(self.run, need)
        return f"the run has no {table} table" if not column and self._should_have(table) else ""

    def _should_have(self, table: str) -> bool:
        """Whether a table without rows was not recorded."""
        if self.run.manifest.provenance.observed is not None:
            return False  # it was observed: nothing happened
        if trace := TABLES[table].trace:
            return self.loaded or trace not in self.run.manifest.traced
        if table == "clones":
            return any(t.how == "unknown" for t in self.history.tasks)
        if table == "syscalls" and self.run.table("clones").height:
            return True  # every attempt is also a call
        return table in _OF_EVERY_PROGRAM and self.loaded

    @cached_property
    def loaded(self) -> bool:
        """Whether a program was loaded; handwritten runs load none, and have fewer rows."""
        return self.run.table("modules").height > 0

    @property
    def of_program(self) -> bool:
        """Whether a recorder wrote every row; a recovered run may lack its last rows."""
        manifest = self.run.manifest
        recorded = bool(manifest.trees) or manifest.provenance.real
        return recorded and manifest.ending != "recovered"

    @cached_property
    def truncated(self) -> str:
        """Why the run is incomplete; empty if it is complete."""
        manifest = self.run.manifest
        return "" if manifest.complete else f"the run was cut short: {manifest.ending}"

    # Rows

    @cached_property
    def events(self) -> Rows[Event]:
        return read(self.run.scan("task_events"), Event)

    @cached_property
    def attempts(self) -> Rows[Attempt]:
        return read(self.run.table("clones"), Attempt)

    @cached_property
    def transfers(self) -> Rows[Transfer]:
        return transfers(self.run)

    @cached_property
    def mappings(self) -> Rows[Mapping]:
        return read(self.run.scan("mappings"), Mapping)

    @cached_property
    def signals(self) -> Rows[Signal]:
        return read(self.run.table("signals"), Signal)

    @cached_property
    def faults(self) -> Rows[Fault]:
        return read(self.run.table("faults"), Fault)

    def calls(self, *names: str) -> Rows[Call]:
        """Those of these names, but for one of `_JUDGED` whose arguments were not observed."""
        unknown = pl.any_horizontal(pl.col(f"a{i}").is_null() for i in range(3))
        rows = self.run.scan("syscalls").filter(called(*names) & ~(called(*_JUDGED) & unknown))
        return read(rows, Call)

    @cached_property
    def clone_ssps(self) -> dict[int, tuple[int | None, int | None]]:
        """ssp at the entry and the exit of each call that creates a task, by its seq."""
        seqs = self.run.scan("clones").select("seq")
        calls = self.run.scan("syscalls").join(seqs, on="seq", how="semi")
        rows = calls.select("seq", "ssp_entry", "ssp_exit").collect().iter_rows()
        return {seq: (entry, exit) for seq, entry, exit in rows}

    def gathered(self, gather: Callable[[Facts], Gather[T]]) -> T:
        """What is gathered from all of cfi: one of the rules' `gathers`, or another."""
        if gather not in self._gathered:
            named = dict.fromkeys((gather, *self._gathers()))
            new = [each for each in named if each not in self._gathered]
            found = gathered(self.run, *(each(self) for each in new), page=self._page)
            self._gathered |= zip(new, found, strict=True)
        of_it: T = self._gathered[gather]
        return of_it

    @cached_property
    def _page(self) -> int:
        """Within so many bytes an address is on one mapping."""
        for table, *columns in (
            ("mappings", "start", "length", "old_start", "old_length"),
            ("dump_areas", "start", "length"),
        ):
            odd = self.run.scan(table).select((pl.col(columns) % PAGE != 0).any())
            if any(odd.collect().row(0)):
                return 1
        return PAGE

    def _gathers(self) -> Iterator[Callable[[Facts], Gather[Any]]]:
        for rule in self._rules if self.recorded("cfi") else ():
            if rule.gathers and not any(map(self.missing, rule.needs)):
                yield from rule.gathers

    # Derived

    @cached_property
    def history(self) -> History:
        first = self.run.manifest.rlimits.get("STACK")
        return Fold(
            law=self.law,
            supported=self.supported,
            stack_limit=first.soft if first else None,
            events=self.events,
            attempts=self.attempts,
            calls=self.calls("prctl", "prlimit64", "setrlimit"),
            clone_ssps=self.clone_ssps,
            mappings=Rows(m for m in self.mappings if m.shadow_stack or m.op == "unmap"),
            transfers=self.transfers,
            dumped=read(self.run.table("dump_threads"), Thread),
            pid=self.run.manifest.first_tid,
        ).run()

    @cached_property
    def ledger(self) -> Ledger:
        """Every shadow stack: its owner, its allocation and its end."""
        return Ledger(self.history, self.regions, self.mappings, self.forks)

    @property
    def stacks(self) -> list[Stack]:
        """The stacks of the ledger, in the order of their allocation."""
        return self.ledger.stacks

    @cached_property
    def forks(self) -> Rows[Copied]:
        cause = pl.col("cause").cast(pl.String)
        return read(self.run.table("mms").filter(cause == "fork"), Copied)

    @cached_property
    def ssp_path(self) -> pl.DataFrame:
        """Every task's ssp over time (derive/ssp_path.py)."""
        return ssp_path(self.run).collect()

    @cached_property
    def stretches(self) -> tuple[int, pl.DataFrame]:
        """The number of rows of ssp_path, and ssp_path with one row per unbroken stretch."""
        return self.gathered(gather_stretches)

    @cached_property
    def wrong_moves(self) -> list[dict[str, Any]]:
        """Events with an ssp that nothing explains (derive/ssp_moves.py)."""
        token = 8 if self.row["signal_ssp"] == "moved" else 0
        motions = self.gathered(gather_motions)
        return wrong_moves(self.run, self.history, self.stretches[1], token, motions)

    @cached_property
    def loads(self) -> Loads:
        """Loads from shadow stacks, with the words they should have found (derive/slots.py)."""
        return self.gathered(gather_loads)

    @cached_property
    def code(self) -> Code:
        """The instructions of the blocks that ran."""
        return Code(self.run)

    def trail(self, table: str) -> Trail:
        """Who ran when, by a table of instructions (derive/trail.py)."""
        if table == "cfi":
            return self.gathered(gather_trail)
        return self.walked[0] if table == "flow" else trail(self.run, table)

    @cached_property
    def walked(self) -> tuple[Trail, Steps]:
        """The trail of flow, and how many instructions its blocks took."""
        lengths = {block: len(words) for block, words in self.code.blocks.items()}
        return walked(self.run, lengths)

    @cached_property
    def regions(self) -> Regions:
        """All mapped areas over time."""
        return Regions.of(self.run, self.mappings)

    @cached_property
    def with_vdso(self) -> frozenset[int | None]:
        """The address spaces whose vdso is recorded."""
        return frozenset(region.mm for region in self.regions.all if region.name == "[vdso]")

    @cached_property
    def visits(self) -> list[Visit]:
        """Accesses by shadow-stack instructions and their faults, by page (derive/pages.py)."""
        return self.gathered(gather_visits)

    @cached_property
    def astray(self) -> dict[Task | None, int]:
        """When each task's ssp was first wrong."""
        first: dict[Task | None, int] = {}
        moved = moved_elsewhere(self.run, self.history) | self.gathered(gather_motions)
        for seq, tid in [*moved.items(), *((w["seq"], w["tid"]) for w in self.wrong_moves)]:
            task = self.history.task(tid, seq)
            first[task] = min(seq, first.get(task, seq))
        return first

    @property
    def threads(self) -> list[Cloned]:
        """Clones whose child was created and, by the law, gets a stack of its own."""
        return [c for c in self.history.clones if c.due and c.child and not c.refused]

    def first_effect(self, task: Task, seq: int) -> tuple[int, int | None] | None:
        """A task's first shadow-stack instruction that takes effect after an exec or prctl at seq
        and before its status changes again: its seq and its address, if it has one."""
        if not self.recorded("cfi"):
            return None
        ends = (self.history.next_change(task, seq), task.exit_seq)
        found = self._first_effects.get((task.tid, seq))
        return found if found and found[0] < min(e for e in (*ends, 2**64) if e) else None

    @cached_property
    def _first_effects(self) -> dict[Point, tuple[int, int | None]]:
        steps = [(p.task.tid, p.seq) for p in self.history.prctls]
        steps += [(e.heir.tid, e.seq) for e in self.history.execs]
        works = (pl.col("kind").cast(pl.String) != "lpad") & pl.col("fault").is_null()
        return firsts(self.run, steps, works, "addr")

    @cached_property
    def handlings(self) -> list[Handling]:
        """Signal deliveries and sigreturns."""
        return handlings(self.run, self.signals, self.transfers, self.history)

    @cached_property
    def traced(self) -> frozenset[Task | None]:
        """The tasks that a debugger traced at some time.

        It receives their signals first, and may suppress them or inject others."""
        task = self.history.task
        calls = self.calls("ptrace")
        own = {task(c.tid, c.seq) for c in calls if c.a0 == PTRACE_TRACEME}
        return frozenset(own | {task(c.a1, c.seq) for c in calls if c.a0 != PTRACE_TRACEME})

    @cached_property
    def stack_maps(self) -> list[StackMap]:
        """The calls of map_shadow_stack."""
        calls = self.calls("map_shadow_stack")
        return stack_maps(calls, self.mappings, self.transfers, self.regions)


# What is gathered from all of cfi for several rules


def gather_loads(facts: Facts) -> Gather[Loads]:
    return loads(facts.transfers, facts.ledger, facts.regions.changes)


def gather_stretches(facts: Facts) -> Gather[tuple[int, pl.DataFrame]]:
    return stretches(facts.run)


def gather_motions(facts: Facts) -> Gather[dict[int, int | None]]:
    return wrong_motions()


def gather_trail(facts: Facts) -> Gather[Trail]:
    return of_cfi(facts.run)


def gather_visits(facts: Facts) -> Gather[list[Visit]]:
    return visits(facts.regions, facts.mappings, facts.forks, facts.loaded)
