"""A dump as explanations read it: threads, stacks, and the two call stacks of a thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from shstk.replay.derive.regions import Region, Regions
from shstk.replay.dump.compare import Line, compare
from shstk.replay.dump.memory import Memory
from shstk.replay.dump.unwind import Tables, Walk
from shstk.schemas.tables import REGISTERS

if TYPE_CHECKING:
    from shstk.replay.run import Run

_MOST: Final = 1 << 20  # words of a shadow stack
_ZEROS: Final = 32  # bytes that end one


@dataclass(frozen=True)
class Thread:
    """x: x0 to x31. ssp: None if its shadow stack is off, or not known."""

    tid: int
    pc: int
    ssp: int | None
    x: tuple[int, ...]


class Dump:
    """A run that was made of a dump."""

    def __init__(self, run: Run, regions: Regions) -> None:
        rows = run.table("dump_threads").iter_rows(named=True)
        self.threads = [
            Thread(r["tid"], r["pc"], r["ssp"], (0, *(r[name] for name in REGISTERS))) for r in rows
        ]
        self.memory = Memory(run, regions)
        biases = dict(run.table("modules").select("input", "bias").drop_nulls().iter_rows())
        self._tables = Tables(self.memory, biases)
        self._regions = regions

    def thread(self, tid: int) -> Thread:
        return next(thread for thread in self.threads if thread.tid == tid)

    @cached_property
    def shadow_stacks(self) -> list[Region]:
        return [region for region in self._regions.all if region.shadow_stack]

    def stack_of(self, thread: Thread) -> Region | None:
        """The shadow stack that a thread's ssp is on: also if it is empty."""
        ssp = thread.ssp
        if ssp is None:
            return None
        here = next((r for r in self.shadow_stacks if r.start <= ssp < r.end), None)
        below = next((r for r in self.shadow_stacks if r.end == ssp), None)
        return below if below and not (here and self.memory.word(ssp)) else here or below

    def sharers(self, thread: Thread) -> list[Thread]:
        """The other threads whose ssp is on a thread's shadow stack."""
        stack = self.stack_of(thread)
        others = (t for t in self.threads if t is not thread)
        return [t for t in others if stack and self.stack_of(t) is stack]

    def words(self, thread: Thread) -> list[tuple[int, int]]:
        """The words from a thread's ssp up, with their addresses: to the top, or to zeros, above
        which another stack may begin. Nobody pushes a zero, but the kernel makes a token zero."""
        stack = self.stack_of(thread)
        return list(self._words(thread.ssp or 0, stack.end)) if stack else []

    def _words(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        for address in range(low, min(high, low + 8 * _MOST), 8):
            word = self.memory.word(address)
            if word is None or not any(self.memory.read(address, min(_ZEROS, high - address))):
                return
            yield address, word

    def two_stacks(self, thread: Thread, instruction: str | None = None) -> list[Line]:
        """A thread's shadow stack and ordinary stack, compared. instruction: as of `compare`."""
        shadow = self.words(thread)
        registers = (thread.pc, *thread.x[1:])
        words = [word for _, word in shadow]
        walk = Walk(self.memory, self._tables, registers, words, instruction)
        held = shadow if self.stack_of(thread) else None
        return compare(held, list(walk.entries()), instruction)

    def holding(self, value: int) -> Iterator[tuple[int, Region]]:
        """Where on the shadow stacks a word stands."""
        wanted = value.to_bytes(8, "little")
        for stack in self.shadow_stacks:
            data = self.memory.read(stack.start, stack.length)
            at = data.find(wanted) if value else -1
            while at >= 0:
                if at % 8 == 0:
                    yield stack.start + at, stack
                at = data.find(wanted, at + 1)
