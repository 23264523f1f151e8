"""The run around a fault: the data that explanations are derived from.

Faults are best asked about in seq order: what stands on the shadow stacks, and which calls are
open, is known by walks that go forward.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.branches import blocks
from shstk.replay.derive.frames import Frame
from shstk.replay.derive.history import Task
from shstk.replay.derive.nearest import Found, lasts
from shstk.replay.derive.open_calls import OpenCalls
from shstk.replay.derive.rows import Signal
from shstk.replay.derive.ssp_reasons import last_ssps, motions
from shstk.replay.derive.stacks import Stack
from shstk.replay.derive.standing import Standing
from shstk.replay.derive.words import Word, of_kernel
from shstk.replay.dump.scene import Dump
from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Writer
from shstk.replay.facts import Facts
from shstk.replay.rules import named
from shstk.replay.rules.outcome import Violation
from shstk.replay.symbols import Place, Symbols
from shstk.schemas.seq import show
from shstk.schemas.uapi import PAGE

if TYPE_CHECKING:
    from shstk.replay.run import Run

_NEAR: Final = 2 * PAGE  # bytes around ssp in which a function's own word is looked for


class Motions(Sequence[dict[str, Any]]):
    """One task's rows of derive/ssp_reasons.py, in order; each is made when it is asked for."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return self._rows.height

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._rows.iter_rows(named=True)

    def __getitem__(self, at: Any) -> Any:
        return Motions(self._rows[at]) if isinstance(at, slice) else self._rows.row(at, named=True)


class Scene:
    """A run, with the derived data that the faults to be explained share."""

    def __init__(self, run: Run, faults: Sequence[Fault]) -> None:
        self.run = run
        self.facts = Facts(run, run.row, "intent")
        self.symbols = Symbols(run, self.facts.regions)
        self._points = [(f.tid, f.seq) for fault in faults for f in (fault, fault.raised_by) if f]
        self._violations: dict[str, list[Violation]] = {}
        self._by_task: dict[str, dict[Task | None, Violation]] = {}
        self._by_seq: dict[str, dict[int, Violation]] = {}

    @cached_property
    def dump(self) -> Dump | None:
        """What the dump shows that the run was made of."""
        dump = Dump(self.run, self.facts.regions)
        return dump if dump.threads else None

    # Words

    @cached_property
    def standing(self) -> Standing:
        return Standing(self.run, self.facts.regions.changes, list(of_kernel(self.facts)))

    def word(self, fault: Fault) -> Word | None:
        """The word that a pop read."""
        if fault.address is None:
            return None
        return next(iter(self.words(fault, fault.address, fault.address + 8)), None)

    def words(self, fault: Fault, low: int, high: int) -> list[Word]:
        """The words at low <= address < high just before a fault, in ascending order."""
        return self.standing.words(fault.mm, low, high, fault.seq)

    def writer(self, word: Word) -> Writer:
        place = None if word.pc is None else self.symbols.at(word.mm, word.pc, word.seq)
        return Writer(word.writer, word.seq, word.tid, place)

    # ssp

    def ssp(self, fault: Fault) -> int | None:
        """csr ssp just before the fault."""
        return self._ssps.get((fault.tid, fault.seq))

    @cached_property
    def _ssps(self) -> dict[tuple[int, int], int]:
        return last_ssps(self.run, self._points)

    def motions(self, fault: Fault, since: int = 0) -> Motions:
        """The changes of the task's ssp after `since`, other than pushes and pops."""
        rows, task = self._motions, self.facts.history.task(fault.tid, fault.seq)
        begin = max(since, task.born - 1 if task else 0)
        mine = rows[_where(rows["tid"], fault.tid, fault.tid)]
        return Motions(mine[_where(mine["seq"], begin + 1, fault.seq - 1)])

    @cached_property
    def _motions(self) -> pl.DataFrame:
        return motions(self.run, self.facts.ledger)

    def last_motion(self, fault: Fault) -> Iterator[str]:
        """The last of `motions` in words, if there was one."""
        for motion in self.motions(fault)[-1:]:
            at = f" in {self.name(fault, motion['pc'])}" if motion["pc"] is not None else ""
            yield (
                f"ssp last moved, other than by push and pop, at {show(motion['seq'])}{at}:"
                f" {motion['reason']} to {motion['ssp_after'] or 0:#x}"
            )

    def switched_on(self, fault: Fault) -> int | None:
        """When the task last switched its shadow stack on."""
        history = self.facts.history
        calls = history.prctls_of(history.task(fault.tid, fault.seq))
        on = [p.seq for p in calls if p.after.enabled and not p.before.enabled]
        return max((seq for seq in on if seq < fault.seq), default=None)

    def pc_of(self, seq: int) -> int | None:
        """Where a system call was made."""
        return self._calls.get(seq)

    @cached_property
    def _calls(self) -> dict[int, int | None]:
        return dict(self.run.scan("syscalls").select("seq", "pc").collect().iter_rows())

    def delivery(self, tid: int, frame: int | None, born: int, before: int) -> Signal | None:
        """The last signal whose frame was stored there, of a task since its birth."""
        rows = self._deliveries.get((tid, frame), [])
        held = bisect_left(rows, before, key=lambda row: row.seq)
        return rows[held - 1] if held and rows[held - 1].seq >= born else None

    @cached_property
    def _deliveries(self) -> dict[tuple[int | None, int | None], list[Signal]]:
        found: dict[tuple[int | None, int | None], list[Signal]] = {}
        for row in self.facts.signals:
            if row.kind == "delivery":
                found.setdefault((row.tid, row.frame), []).append(row)
        return found

    def stack(self, mm: int | None, address: int, seq: int) -> Stack | None:
        return self.facts.ledger.at(mm, address, seq)

    # Calls

    @cached_property
    def open_calls(self) -> OpenCalls:
        return OpenCalls(self.run)

    def open(self, fault: Fault) -> list[Frame]:
        """The task's calls that had not returned before the fault, outermost first."""
        return self.open_calls.of(fault.tid, fault.seq)

    def pushed(self, fault: Fault, frame: Frame) -> Word | None:
        """The word that an open call pushed: the first with its return address since it began."""
        ssp = fault.address or 0
        own = [
            word
            for word in self.words(fault, max(ssp - _NEAR, 0), ssp + _NEAR)
            if (word.value, word.tid) == (frame.return_to, fault.tid) and word.seq >= frame.call_seq
        ]
        return min(own, key=lambda word: word.seq, default=None)

    def ran_before(self, fault: Fault) -> tuple[str, int] | None:
        """How the last block that the task ran, before it faulted in another, ended, and where."""
        task, at = self.facts.history.task(fault.tid, fault.seq), (fault.tid, fault.seq)
        for found in self._blocks:
            if at in found:
                seq, block = found[at]
                pc, ends, site = self._code[block]
                if pc != fault.pc:
                    same = self.facts.history.task(fault.tid, seq) is task
                    return (ends, site) if same else None
                at = fault.tid, seq
        return None

    @cached_property
    def _blocks(self) -> tuple[Found, Found]:
        """Of each fault the last block that ran, and of these the one before."""
        last = lasts(self.run, self._points, pl.lit(True), "block", table="flow")
        again = [(tid, seq) for (tid, _), (seq, _) in last.items()]
        return last, lasts(self.run, again, pl.lit(True), "block", table="flow")

    @cached_property
    def _code(self) -> dict[int | None, tuple[int, str, int]]:
        rows = blocks(self.run).select("block", "pc", "ends", "site").iter_rows()
        return {block: (pc, ends, site) for block, pc, ends, site in rows}

    # Words for people

    def place(self, fault: Fault, address: int | None) -> Place | None:
        return None if address is None else self.symbols.at(fault.mm, address, fault.seq)

    def name(self, fault: Fault, address: int) -> str:
        """An address in words, or in hex if nothing is mapped there."""
        place = self.place(fault, address)
        return str(place) if place else f"{address:#x}"

    def who(self, word: Word) -> str:
        """`task 100 pushed it at 12.0 in f (f.c:3)`"""
        writer = self.writer(word)
        verb = _VERBS.get(word.writer, f"{word.writer} wrote it")
        at = f" in {writer.place}" if writer.place else ""
        return f"{verb.format(tid=word.tid)} at {show(word.seq)}{at}"

    def violated(self, slug: str) -> list[Violation]:
        """The findings of a rule, judged by intent."""
        if slug not in self._violations:
            self._violations[slug] = list(named(slug).check(self.facts).violations)
        return self._violations[slug]

    def violated_by(self, slug: str, *tasks: Task | None) -> Violation | None:
        """The first one of these tasks."""
        if slug not in self._by_task:
            task, found = self.facts.history.task, self.violated(slug)
            self._by_task[slug] = {task(v.finding.tid, v.finding.seq): v for v in reversed(found)}
        own = (self._by_task[slug].get(task) for task in tasks if task)
        return min(filter(None, own), key=lambda v: v.finding.seq, default=None)

    def violated_at(self, slug: str, seq: int) -> Violation | None:
        """The one at a seq."""
        if slug not in self._by_seq:
            self._by_seq[slug] = {v.finding.seq: v for v in reversed(self.violated(slug))}
        return self._by_seq[slug].get(seq)


def _where(numbers: pl.Series, first: int, last: int) -> slice:
    """Where in a sorted series the numbers from first to last are."""
    low = numbers.search_sorted(first, side="left")
    return slice(int(low), int(numbers.search_sorted(last, side="right")))


_VERBS: Final = {
    "sspush": "task {tid} pushed it",
    "ssamoswap": "task {tid} swapped it in (ssamoswap)",
    "signal": "the kernel wrote it, the token of a signal to task {tid},",
    "sigreturn": "the kernel zeroed it, in a sigreturn of task {tid},",
    "map_shadow_stack": "the kernel wrote it, the token of task {tid}'s map_shadow_stack,",
    "kernel": "the kernel wrote it for task {tid}",
}
