"""A guest that goes to any place of its run, forwards and backwards, and stops at traps.

A place is an icount: so many instructions have been attempted, and the kernel has done all that it
does before the next one. It says everything about the guest, because a run is one order of all
tasks. To go backwards is to go to a checkpoint and from there forwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.tracer._core import STOP_TRAP
from shstk.tracer.kernel import loop
from shstk.tracer.rerun.checkpoints import Checkpoints

if TYPE_CHECKING:
    from shstk.tracer.guest import Guest
    from shstk.tracer.kernel.task import Task
    from shstk.tracer.rerun.checkpoint_cache import CheckpointCache

_TRAP: Final = 65  # cause of Hart.fault() after an access to a watched byte
_NEVER: Final = 2**64 - 1


@dataclass(frozen=True)
class Watch:
    """Bytes of memory. uses: _core.USE_*."""

    first: int
    last: int
    uses: int


@dataclass(frozen=True)
class Traps:
    """Where a process stops: before the instructions at `breaks`, at accesses to `watches`."""

    breaks: tuple[int, ...] = ()
    watches: tuple[Watch, ...] = ()


_NONE: Final = Traps()


@dataclass(frozen=True)
class Trap:
    """The task that is before a trap. address: the byte to be accessed; None: it is at a break."""

    tid: int
    address: int | None


class Traveller:
    """traps: by pid. poll: called often; what it raises leaves the guest where it is.

    The guest was just set up. No object of its kernel model stays the same when it goes backwards.
    """

    def __init__(
        self, guest: Guest, cache: CheckpointCache, poll: Callable[[], None] = lambda: None
    ) -> None:
        self.guest = guest
        self.k = guest.k
        self.traps: Mapping[int, Traps] = {}
        self._machine = guest.machine
        self._poll = poll
        self._armed: dict[int, Traps] = {}  # by mm
        self._met: int | None = None  # the place of the last access that was a trap
        self._points = Checkpoints(guest, cache)
        self.next = loop.ready(self.k)

    @property
    def icount(self) -> int:
        return self._machine.icount

    @property
    def next_task(self) -> Task | None:
        """The task whose instruction is the next one; None: the run ends here."""
        return None if isinstance(self.next, str) else self.next

    def go(self, icount: int) -> None:
        """To a place, whatever traps are on the way. It stops where the run ends."""
        if icount < self.icount or self._points.latest(icount) > self.icount:
            self._restore(icount)
        traps, self.traps = self.traps, {}
        try:
            self._run(icount)
        finally:
            self.traps = traps

    def forward(self, limit: int) -> Trap | None:
        """To the next trap, or else to `limit`: before the instruction at a break, or before one
        that accesses watched bytes or whose call stores to them.

        A break here is passed, and so is an access if it was the last trap."""
        machine, here = self._machine, self.icount
        machine.noting = False
        machine.pass_at = here
        machine.pass_access = self._met == here
        return self._run(limit)

    def backward(self, limit: int) -> Trap | None:
        """To the last trap before here that is not before `limit`, or else to `limit`. It stops
        where `forward` does."""
        end = self.icount
        while end > limit:
            begin = self._restore(end - 1)
            if begin < limit:
                self.go(limit)
                begin = limit
            try:
                last = self._last_trap(end)
            except BaseException:
                self.go(end)
                raise
            if last is not None:
                return self._back_to(last)
            end = begin
        self._back(limit)
        return None

    # One way through a part of the run.

    def _run(self, limit: int) -> Trap | None:
        k, machine = self.k, self._machine
        machine.kernel_stored = False
        self._settle()
        while self.icount < limit and (task := self.next_task) is not None:
            self._arm(task)
            before = self._watched()
            stop = loop.run_slice(k, task, min(loop.budget_of(k), limit - self.icount))
            if stop == STOP_TRAP:
                return self._stopped(task)
            self._settle()
            if machine.kernel_stored:
                machine.kernel_stored = False
                if machine.noting:
                    machine.noted = self.icount - 1
                elif self._met != self.icount - 1:
                    return self._before_call(self._changed(before))
            self._points.passing()
            self._poll()
        return None

    def _last_trap(self, end: int) -> int | None:
        """The place before the last trap on the way to `end`; None: there is none."""
        machine = self._machine
        machine.noting, machine.noted = True, _NEVER
        machine.pass_at, machine.pass_access = _NEVER, False
        try:
            self._run(end)
        finally:
            machine.noting = False
        return None if machine.noted == _NEVER else machine.noted

    def _back_to(self, place: int) -> Trap:
        """Go back to a place before a trap, and find out what it is."""
        self._back(place)
        task = self.next_task
        assert task is not None
        if task.hart.pc in self.traps.get(task.pid, _NONE).breaks:
            return Trap(task.tid, None)
        self._met = None
        found = self.forward(place + 1)
        self._met = None
        assert found is not None
        return found

    def _stopped(self, task: Task) -> Trap:
        """The trap that a task has met."""
        tid, (cause, _, _, address, _, _) = task.tid, task.hart.fault()
        if cause != _TRAP:
            return Trap(tid, None)
        self._met = self.icount
        if task.hart.v_used and task.hart.v_csrs()[0]:
            # It stopped amid a vector access: none of it has happened yet.
            place = self.icount
            self._restore(place)
            self.go(place)
        return Trap(tid, address)

    def _before_call(self, address: int) -> Trap:
        """The kernel has stored to a watched byte after the last instruction: go before that."""
        self._met = self.icount - 1
        self._back(self._met)
        task = self.next_task
        assert task is not None
        return Trap(task.tid, address)

    def _back(self, place: int) -> None:
        """Go back to a place that is likely to be gone back from again."""
        if place < self.icount:
            self._restore(place)
        for near in self._points.places_before(place):
            self.go(near)
            self._points.keep()
        self.go(place)

    def _restore(self, icount: int) -> int:
        """To the latest checkpoint at `icount` or earlier; where that is."""
        self._points.restore_latest(icount)
        self._armed = {}
        self._settle()
        return self.icount

    def _settle(self) -> None:
        self.next = loop.ready(self.k)

    # Traps.

    def _arm(self, task: Task) -> None:
        assert task.mm is not None
        wanted = self.traps.get(task.pid, _NONE)
        if self._armed.get(task.mm.id, _NONE) != wanted:
            self._armed[task.mm.id] = wanted
            watches = [(w.first, w.last, w.uses) for w in wanted.watches]
            task.space.set_traps(wanted.breaks, watches)

    def _watched(self) -> dict[tuple[int, Watch], bytes | None]:
        """What the watched bytes of each armed space are."""
        return {
            (mm, watch): self.k.mms[mm].space.read(
                watch.first, watch.last + 1 - watch.first, force=True
            )
            for mm, traps in self._armed.items()
            if mm in self.k.mms
            for watch in traps.watches
        }

    def _changed(self, before: dict[tuple[int, Watch], bytes | None]) -> int:
        """The address of watched bytes that the kernel has changed."""
        now = self._watched()
        changed = [watch for (mm, watch), data in before.items() if now.get((mm, watch)) != data]
        stored = [watch for _, watch in before]
        return (changed or stored)[0].first
