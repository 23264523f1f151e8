"""The run around a fault: the data that explanations are derived from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.frames import frames
from shstk.replay.derive.ssp_path import ssp_path
from shstk.replay.derive.ssp_reasons import with_reasons
from shstk.replay.derive.stacks import Stack
from shstk.replay.derive.words import words
from shstk.replay.explain.faults import Fault
from shstk.replay.explain.model import Writer
from shstk.replay.facts import Facts
from shstk.replay.rules import named
from shstk.replay.rules.outcome import Finding, Result, Rule
from shstk.replay.symbols import Place, Symbols
from shstk.schemas.seq import show

if TYPE_CHECKING:
    from shstk.replay.run import Run

_PLAIN: Final = ("push", "pop")
_END: Final = 2**64 - 1


@dataclass(frozen=True)
class Slot:
    """A word of a shadow stack: a row of derive/words.py."""

    mm: int | None
    addr: int
    value: int
    writer: str
    tid: int | None
    pc: int | None
    write_seq: int
    from_seq: int
    to_seq: int | None
    popped_seq: int | None


@dataclass(frozen=True)
class Frame:
    """A call: a row of derive/frames.py."""

    tid: int
    mm: int | None
    depth: int
    kind: str
    call_seq: int
    return_seq: int | None
    ended: str
    caller_pc: int | None
    return_to: int | None
    callee: int | None
    slot: int | None
    source: str


@dataclass(frozen=True)
class Violation:
    """A finding, and the violated rule."""

    rule: Rule
    finding: Finding

    def __str__(self) -> str:
        return f"{self.rule.id} is violated at {show(self.finding.seq)}: {self.finding.note}"


class Scene:
    """A run, with the derived data that all its faults share."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.facts = Facts(run, run.row, "intent")
        self.symbols = Symbols(run, self.facts.regions)
        self._results: dict[str, Result] = {}

    @cached_property
    def words(self) -> pl.DataFrame:
        return words(self.facts)

    @cached_property
    def path(self) -> pl.DataFrame:
        return with_reasons(ssp_path(self.run).collect(), self.facts.ledger)

    # Words

    def slots(self, mm: int | None, low: int, high: int, seq: int) -> list[Slot]:
        """The words at low <= address < high just before seq, in ascending order."""
        held = self.words.filter(
            pl.col("mm").eq_missing(pl.lit(mm, pl.UInt32))
            & pl.col("addr").is_between(low, high, closed="left")
            & (pl.col("from_seq") < seq)
            & (pl.col("to_seq").fill_null(_END) >= seq)
        )
        return [Slot(*row) for row in held.sort("addr").iter_rows()]

    def slot(self, fault: Fault) -> Slot | None:
        """The word that a pop read."""
        if fault.address is None:
            return None
        at = self.slots(fault.mm, fault.address, fault.address + 8, fault.seq)
        return at[0] if at else None

    def writer(self, slot: Slot) -> Writer:
        place = None if slot.pc is None else self.symbols.at(slot.mm, slot.pc, slot.write_seq)
        return Writer(slot.writer, slot.write_seq, slot.tid, place)

    def before(self, fault: Fault) -> pl.Expr:
        """Selects rows of the task that faulted, before the fault, by their seq and tid."""
        task = self.facts.history.task(fault.tid, fault.seq)
        born = task.born if task else 0
        return (pl.col("tid") == fault.tid) & (pl.col("seq") < fault.seq) & (pl.col("seq") >= born)

    # ssp

    def ssp(self, fault: Fault) -> int | None:
        """csr ssp just before the fault."""
        last = self.path.filter(self.before(fault))
        told = last["ssp_after"].drop_nulls()
        return int(told[-1]) if len(told) else None

    def motions(self, fault: Fault, since: int = 0) -> list[dict[str, Any]]:
        """The changes of the task's ssp after `since`, other than pushes and pops."""
        rows = self.path.filter(
            self.before(fault)
            & (pl.col("seq") > since)
            & pl.col("reason").is_not_null()
            & ~pl.col("reason").is_in(_PLAIN)
        )
        return list(rows.iter_rows(named=True))

    def last_motion(self, fault: Fault) -> Iterator[str]:
        """The last of `motions` in words, if there was one."""
        for motion in self.motions(fault)[-1:]:
            pc = self.pc_of(motion["seq"])
            at = f" in {self.name(fault, pc)}" if pc is not None else ""
            yield (
                f"ssp last moved, other than by push and pop, at {show(motion['seq'])}{at}:"
                f" {motion['reason']} to {motion['ssp_after'] or 0:#x}"
            )

    def switched_on(self, fault: Fault) -> int | None:
        """When the task last switched its shadow stack on."""
        history = self.facts.history
        task = history.task(fault.tid, fault.seq)
        on = [
            p.seq
            for p in history.prctls
            if p.task is task and p.after.enabled and not p.before.enabled
        ]
        return max((seq for seq in on if seq < fault.seq), default=None)

    def pc_of(self, seq: int) -> int | None:
        """The instruction of a cfi event or call."""
        for table in ("cfi", "syscalls"):
            found = self.run.table(table).filter(seq=seq)["pc"]
            if len(found):
                return None if found[0] is None else int(found[0])
        return None

    def stack(self, mm: int | None, address: int, seq: int) -> Stack | None:
        return self.facts.ledger.at(mm, address, seq)

    # Calls

    def frames(self, fault: Fault) -> list[Frame]:
        """The task's calls up to the fault, in order; calls that had not ended by then are open."""
        task = self.facts.history.task(fault.tid, fault.seq)
        born = task.born if task else 0
        return [
            replace(f, ended="open", return_seq=None)
            if f.return_seq is None or f.return_seq >= fault.seq
            else f
            for f in self._frames.get(fault.tid, ())
            if f.call_seq <= fault.seq and (f.return_seq or fault.seq) >= born
        ]

    @cached_property
    def _frames(self) -> dict[int, list[Frame]]:
        found: dict[int, list[Frame]] = {}
        for row in frames(self.run).iter_rows():
            frame = Frame(*row)
            found.setdefault(frame.tid, []).append(frame)
        return found

    # Words for people

    def place(self, fault: Fault, address: int | None) -> Place | None:
        return None if address is None else self.symbols.at(fault.mm, address, fault.seq)

    def name(self, fault: Fault, address: int) -> str:
        """An address in words, or in hex if nothing is mapped there."""
        place = self.place(fault, address)
        return str(place) if place else f"{address:#x}"

    def who(self, slot: Slot) -> str:
        """`task 100 pushed it at 12.0 in f (f.c:3)`"""
        writer = self.writer(slot)
        verb = _VERBS.get(slot.writer, f"{slot.writer} wrote it")
        at = f" in {writer.place}" if writer.place else ""
        return f"{verb.format(tid=slot.tid)} at {show(slot.write_seq)}{at}"

    def violated(self, *slugs: str) -> Iterator[Violation]:
        """The findings of these rules, judged by intent."""
        for slug in slugs:
            if slug not in self._results:
                self._results[slug] = named(slug).check(self.facts)
            result = self._results[slug]
            for finding in result.findings:
                yield Violation(result.rule, finding)


_VERBS: Final = {
    "sspush": "task {tid} pushed it",
    "ssamoswap": "task {tid} swapped it in (ssamoswap)",
    "signal": "the kernel wrote it, the token of a signal to task {tid},",
    "sigreturn": "the kernel zeroed it, in a sigreturn of task {tid},",
    "map_shadow_stack": "the kernel wrote it, the token of task {tid}'s map_shadow_stack,",
    "kernel": "the kernel wrote it for task {tid}",
}
