"""What gdb debugs: a run, the place where it is now, and the stops that gdb asked for.

Time is single. Whichever thread gdb resumes, all of them go on as recorded, and a step of a thread
takes as long as the others run in between.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shstk.gdb import record as events
from shstk.gdb.held import HeldRecorder
from shstk.gdb.ranges import ways_out
from shstk.gdb.record import Event, Record
from shstk.rerun.guest import directory, set_up
from shstk.schemas.seq import STEPS
from shstk.tracer._core import USE_LOAD, USE_STORE
from shstk.tracer.kernel.task import DEAD, ZOMBIE, Task
from shstk.tracer.rerun.checkpoint_cache import CheckpointCache, cache_directory
from shstk.tracer.rerun.travel import Trap, Traps, Traveller, Watch

if TYPE_CHECKING:
    from shstk.replay.run import Run

SIGINT, SIGTRAP = 2, 5
_LONGEST: Final = 1 << 14  # bytes of a range that is run through
BEGIN, END = b"replaylog:begin;", b"replaylog:end;"
# The kinds of Z packets: name in a stop reply, and what a watch is of.
BREAKS: Final = {0: b"swbreak:;", 1: b"hwbreak:;"}
WATCHES: Final = {2: (b"watch", USE_STORE), 3: (b"rwatch", USE_LOAD)}
WATCHES[4] = (b"awatch", USE_LOAD | USE_STORE)


class Interrupted(Exception):
    """gdb has sent Ctrl-C."""


@dataclass(frozen=True)
class Stop:
    """Why and where it stopped. reason: of a stop reply. exited: the wait status of a process."""

    pid: int
    tid: int
    signal: int = SIGTRAP
    reason: bytes = b""
    exited: int | None = None


@dataclass(frozen=True)
class Point:
    """A breakpoint or watchpoint that gdb has set in a process."""

    pid: int
    kind: int  # of the Z packet
    address: int
    length: int


@dataclass(frozen=True)
class Ways:
    """Where a thread that steps through a range leaves it."""

    tid: int
    out: tuple[int, ...]


class Target:
    """Raises BadRun if the run can't be executed again, now or on the way.

    features: of gdb, such as fork-events. passed: signals that gdb does not stop at. caught: the
    system calls that it does (empty: all; None: none). silently: gdb did not ask for them itself
    (`monitor catch`), so it is not told what it would ignore. attached: the processes that it
    knows."""

    def __init__(
        self, run: Run, interrupted: Callable[[], bool], tier: str, cache: Path | None = None
    ) -> None:
        manifest = (directory(run) / "manifest.json").read_bytes()
        kept = CheckpointCache(cache or cache_directory(), manifest)
        self.run = run
        self.interrupted = interrupted
        self.guest = Traveller(set_up(run, HeldRecorder(run), tier=tier), kept, self._poll)
        self.record = Record(run)
        self.features: frozenset[str] = frozenset()
        self.passed: frozenset[int] = frozenset()
        self.caught: frozenset[int] | None = None
        self.silently = False
        self.attached = {self.record.first_pid}
        self.points: set[Point] = set()
        self._ways: Ways | None = None
        self._undoing: int | None = None  # the place after an access, where a way back has stopped
        self._told: Event | None = None  # the last event that was reported here
        self.stop = self._here()

    @property
    def place(self) -> int:
        return self.guest.icount

    # Tasks.

    def tasks(self) -> list[Task]:
        """The threads that gdb can look at, by process."""
        known = [task for task in self.guest.k.tasks.values() if self._visible(task)]
        return sorted(known, key=lambda task: (task.pid, task.tid))

    def task(self, tid: int) -> Task | None:
        task = self.guest.k.tasks.get(tid)
        return task if task is not None and self._visible(task) else None

    def _visible(self, task: Task) -> bool:
        dead = task.state in (ZOMBIE, DEAD) or task.mm is None
        return task.pid in self.attached and not dead

    # Where history ends, for the processes that gdb knows.

    @property
    def first(self) -> int:
        return min((self.record.born(pid) for pid in self.attached), default=0)

    @property
    def last(self) -> int:
        return max((self.record.last(pid) for pid in self.attached), default=self.record.end)

    # Moving.

    def go(self, seq: int) -> None:
        """Before the instruction at a position, or after it and what the kernel did (n > 0)."""
        icount, step = divmod(seq, STEPS)
        place = max(icount - (step == 0), 0)
        self.guest.go(min(max(place, self.first), self.last))
        self._told = self._undoing = None
        self.stop = self._here()

    def forward(self, step: int | None = None) -> Stop:
        """On to the next stop. step: a tid, to stop after its next instruction at the latest."""
        return self._move(lambda: self._forward(step))

    def backward(self, step: int | None = None) -> Stop:
        return self._move(lambda: self._backward(step))

    def step_in(self, tid: int, first: int, end: int) -> Stop:
        """Step a thread while it is at the addresses from `first` to before `end`. It may stop
        earlier."""
        stop = self.forward(tid)
        while (task := self._stepped(stop, tid)) and first <= task.hart.pc < end:
            size = end - first
            text = task.space.read(first, size, force=True) if size <= _LONGEST else None
            if text is None:
                break
            stop = self._move(lambda: self._forward(None), Ways(tid, ways_out(text, first)))
            if (task := self._stepped(stop, tid)) and first <= task.hart.pc < end:
                stop = self.forward(tid)
        return stop

    def _stepped(self, stop: Stop, tid: int) -> Task | None:
        """The task, if it stopped for no other reason than that it has gone on."""
        return self.task(tid) if stop == Stop(stop.pid, tid) else None

    def _move(self, move: Callable[[], Stop], ways: Ways | None = None) -> Stop:
        self._ways = ways
        self._set_traps()
        try:
            self.stop = move()
        except Interrupted:
            self._told = None
            self.stop = self._here(SIGINT)
        return self.stop

    def _poll(self) -> None:
        if self.interrupted():
            raise Interrupted

    def _forward(self, step: int | None) -> Stop:
        self._undoing = None
        last = max(self.last, self.place)
        goal = last if step is None else self._after(step, self.place)
        while True:
            event = self._next_event()
            due = event is not None and event.place <= min(goal, last)
            limit = event.place if due and event else min(goal, last)
            trap = self.guest.forward(limit)
            if trap is not None:
                self._told = None
                if self._passes(trap):
                    continue
                return self._trapped(trap)
            if due and event is not None:
                self._told = event
                return self._reported(event)
            self._told = None
            if self.place >= last and (step is None or goal > last):
                return self._here(reason=END)
            task = self.task(step) if step is not None else None
            if task is None or task.call is None or self.guest.next_task is None:
                return self._here(tid=step)
            # It waits in a call: the step ends with the call.
            ended = self.record.call_ends(goal)
            goal = last + 1 if ended is None else ended

    def _after(self, tid: int, place: int) -> int:
        """The place after a thread's next instruction; if it has none, one past the last."""
        found = self.record.schedule.next(tid, place)
        return self.last + 1 if found is None else found

    def _backward(self, step: int | None) -> Stop:
        self._told = None
        first = min(self.first, self.place)
        goal = first if step is None else self.record.schedule.before(step, self.place)
        if goal is None or self.place == first:
            return self._here(reason=BEGIN)
        goal = max(goal, first)
        event = self._event_before(goal)
        limit = event.place if event else goal
        undoing, self._undoing = self._undoing, None
        trap = self.guest.backward(limit)
        if trap is not None and trap.address is not None and self.place + 1 == undoing:
            trap = self.guest.backward(limit)
        if trap is not None and trap.address is not None:
            # gdb takes the step that undoes the access, as it takes the one that does it.
            self._undoing = self.place + 1
            self.guest.go(self._undoing)
        if trap is not None:
            return self._trapped(trap)
        if event is not None:
            return self._reported(event)
        return self._here(tid=step) if step is not None else self._here(reason=BEGIN)

    # Stops.

    def _here(self, signal: int = SIGTRAP, reason: bytes = b"", tid: int | None = None) -> Stop:
        """At this place, of that thread, or else of the one that runs next."""
        task = self.task(tid) if tid is not None else None
        if task is None:
            following = self.guest.next_task
            task = self.task(following.tid) if following else None
        if task is None:
            task = next(iter(self.tasks()), None)
        if task is None:
            pid = self.record.first_pid
            return Stop(pid, pid, signal, reason)
        return Stop(task.pid, task.tid, signal, reason)

    def _trapped(self, trap: Trap) -> Stop:
        pid = self.record.pid(trap.tid)
        if trap.address is None:
            kinds = self._breaks_of(trap)
            told = BREAKS[min(kinds)] if kinds and "swbreak" in self.features else b""
            return Stop(pid, trap.tid, reason=told)
        own = [point for point in self.points if point.pid == pid]
        watches = [p for p in own if p.kind in WATCHES]
        hit = min(watches, key=lambda p: _distance(p, trap.address or 0))
        name, _ = WATCHES[hit.kind]
        return Stop(pid, trap.tid, reason=b"%s:%x;" % (name, hit.address))

    def _passes(self, trap: Trap) -> bool:
        """Whether it is only a way out of a range that another thread steps through."""
        own = self._ways is None or trap.tid == self._ways.tid
        return not own and trap.address is None and not self._breaks_of(trap)

    def _breaks_of(self, trap: Trap) -> list[int]:
        """The kinds of the breakpoints that a task is at."""
        task = self.task(trap.tid)
        at = (self.record.pid(trap.tid), task.hart.pc if task else None)
        return [p.kind for p in self.points if p.kind in BREAKS and (p.pid, p.address) == at]

    def _reported(self, event: Event) -> Stop:
        pid = self.record.pid(event.tid)
        match event.kind:
            case events.SIGNAL:
                return self._here(event.number, tid=event.tid)
            case events.CALL | events.RETURN if self.silently:
                return Stop(pid, event.tid)
            case events.CALL | events.RETURN:
                word = b"entry" if event.kind == events.CALL else b"return"
                return Stop(pid, event.tid, reason=b"syscall_%s:%x;" % (word, event.number))
            case events.FORK | events.VFORK:
                self.attached.add(event.number)
                word = b"fork" if event.kind == events.FORK else b"vfork"
                child = b"p%x.%x" % (event.number, event.number)
                return Stop(pid, event.tid, reason=b"%s:%s;" % (word, child))
            case events.VFORK_DONE:
                return Stop(pid, event.tid, reason=b"vforkdone:;")
            case events.EXEC | events.UNEXEC:
                # gdb forgets the symbols of the one program and reads those of the other.
                process = self.guest.k.processes.get(pid)
                path = process.exe.encode() if process else b""
                return self._here(reason=b"exec:%s;" % path.hex().encode(), tid=event.tid)
        return Stop(pid, pid, exited=event.number)

    def _wanted(self, event: Event) -> bool:
        if self.record.pid(event.tid) not in self.attached:
            return False
        match event.kind:
            case events.SIGNAL:
                return event.number not in self.passed
            case events.FORK:
                return "fork-events" in self.features
            case events.VFORK | events.VFORK_DONE:
                return "vfork-events" in self.features
            case events.EXEC | events.UNEXEC:
                return "exec-events" in self.features
            case events.EXIT:
                return "multiprocess" in self.features
        return True

    def _next_event(self) -> Event | None:
        """The next one that has not been reported yet."""
        known = self.record.events(self.caught)
        told = self._told or Event(self.place, events.EXIT + 1, 0)
        following = (e for e in _after(known, told) if e.kind in events.FORWARD and self._wanted(e))
        return next(following, None)

    def _event_before(self, goal: int) -> Event | None:
        """The last one before here that is not before `goal`."""
        known = self.record.events(self.caught)
        found = (
            e
            for e in _before(known, Event(self.place, -1, 0))
            if e.kind in events.BACKWARD and self._wanted(e)
        )
        event = next(found, None)
        return event if event is not None and event.place >= goal else None

    def _set_traps(self) -> None:
        traps = {}
        for pid in self.attached:
            own = [point for point in self.points if point.pid == pid]
            breaks = {p.address for p in own if p.kind in BREAKS}
            if self._ways is not None and self.record.pid(self._ways.tid) == pid:
                breaks.update(self._ways.out)
            watches = tuple(
                Watch(p.address, p.address + max(p.length, 1) - 1, WATCHES[p.kind][1])
                for p in own
                if p.kind in WATCHES
            )
            traps[pid] = Traps(tuple(sorted(breaks)), watches)
        self.guest.traps = traps


def _distance(point: Point, address: int) -> int:
    """How far an address is from the bytes of a watch: an access may begin before them."""
    return max(point.address - address, address - (point.address + point.length - 1), 0)


def _after(known: list[Event], event: Event) -> Iterator[Event]:
    for at in range(bisect_right(known, event), len(known)):
        yield known[at]


def _before(known: list[Event], event: Event) -> Iterator[Event]:
    """The latest first."""
    for at in range(bisect_left(known, event) - 1, -1, -1):
        yield known[at]
