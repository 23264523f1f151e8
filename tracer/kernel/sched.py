"""The scheduler: a seeded quantum, a run queue, and the sleepers on the virtual clock."""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict
from typing import Final

from shstk.schemas.machine import QUANTUM
from shstk.tracer.kernel.task import BLOCKED, DEAD, STOPPED, ZOMBIE, Task

KTIME_MAX: Final = 2**63 - 1  # ns: the clock does not reach it

# `why` of a `sched` row, by the state of the task that is switched away from.
_WHY: Final = {BLOCKED: "blocked", STOPPED: "blocked", ZOMBIE: "exited", DEAD: "exited"}


class Scheduler:
    """Round robin over the runnable tasks.

    A quantum counts only while another task is runnable. So the slices into which the run of a lone
    task is cut are never visible.
    """

    def __init__(self, seed: int, quantum: tuple[int, int] = QUANTUM) -> None:
        self.quantum = quantum
        self.rng = random.Random(f"quantum {seed}")
        self.queue: OrderedDict[Task, None] = OrderedDict()  # runnable, without `running`
        self.running: Task | None = None
        self.last: Task | None = None  # the last one chosen, which may have exited since
        self.left = 0  # of the running task's quantum
        self.yielded = False
        self.sleepers: list[tuple[int, int, Task]] = []  # (deadline_ns, order, task), a heap
        self._order = 0

    def add(self, task: Task) -> None:
        if task is not self.running:
            self.queue.setdefault(task)

    def remove(self, task: Task) -> None:
        if task is self.running:
            self.running = None
        else:
            self.queue.pop(task, None)

    def next(self) -> Task | None:
        """The task to run now, None if no task is runnable."""
        if self.running is not None:
            if not self.queue or (self.left > 0 and not self.yielded):
                self.yielded = False
                self.last = self.running
                return self.running
            self.queue[self.running] = None
        if not self.queue:
            return None
        self.running, _ = self.queue.popitem(last=False)
        self.last = self.running
        low, high = self.quantum
        self.left = low + int(self.rng.random() * (high - low + 1))
        return self.running

    def why_stopped(self, last: Task | None) -> str:
        """The reason in the `sched` row of a switch away from `last`."""
        if last is None:
            return "start"
        why = _WHY.get(last.state, "yielded" if self.yielded else "preempted")
        self.yielded = False
        return why

    def yield_cpu(self) -> None:
        """sched_yield: the running task goes to the end of the queue."""
        self.yielded = True

    def budget(self, most: int) -> int:
        """How many instructions may run before the turn of another task."""
        return min(most, self.left) if self.queue else most

    def charge(self, used: int) -> None:
        if self.queue:
            self.left -= used

    # Sleepers.

    def sleep_until(self, deadline_ns: int, task: Task) -> None:
        if deadline_ns >= KTIME_MAX:
            return
        self._order += 1
        heapq.heappush(self.sleepers, (deadline_ns, self._order, task))

    def deadline(self) -> int | None:
        """The time at which the clock wakes the next sleeper, ns."""
        while self.sleepers:
            deadline_ns, _, task = self.sleepers[0]
            if task.state == BLOCKED and task.blocked and task.blocked.deadline_ns == deadline_ns:
                return deadline_ns
            heapq.heappop(self.sleepers)
        return None

    def overdue(self, now_ns: int) -> Task | None:
        """A sleeper whose deadline has passed. The caller wakes it before it calls again."""
        deadline_ns = self.deadline()
        if deadline_ns is None or deadline_ns > now_ns:
            return None
        return heapq.heappop(self.sleepers)[2]
