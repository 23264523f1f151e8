"""Who runs next: a seeded quantum, a run queue, sleepers on the virtual clock."""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import Final

from shstk.schemas.machine import QUANTUM
from shstk.tracer.kernel.task import BLOCKED, DEAD, STOPPED, ZOMBIE, Task

# Why a task no longer runs, by the state it is in when another is switched to.
_WHY: Final = {BLOCKED: "blocked", STOPPED: "blocked", ZOMBIE: "exited", DEAD: "exited"}


class Scheduler:
    """Round robin over the runnable tasks.

    A quantum counts only while somebody else is runnable: how the run of a lone task is cut into
    slices never shows.
    """

    def __init__(self, seed: int, quantum: tuple[int, int] = QUANTUM) -> None:
        self.quantum = quantum
        self.rng = random.Random(f"quantum {seed}")
        self.queue: deque[Task] = deque()  # runnable, without `running`
        self.running: Task | None = None
        self.last: Task | None = None  # that was chosen last, whatever became of it
        self.left = 0  # of the running task's quantum
        self.yielded = False
        self._sleepers: list[tuple[int, int, Task]] = []  # (deadline_ns, order, task), a heap
        self._order = 0

    def add(self, task: Task) -> None:
        if task is not self.running and task not in self.queue:
            self.queue.append(task)

    def remove(self, task: Task) -> None:
        if task is self.running:
            self.running = None
        elif task in self.queue:
            self.queue.remove(task)

    def next(self) -> Task | None:
        """The task to run now; None if nobody can."""
        if self.running is not None:
            if not self.queue or (self.left > 0 and not self.yielded):
                self.yielded = False
                self.last = self.running
                return self.running
            self.queue.append(self.running)
        if not self.queue:
            return None
        self.last = self.running = self.queue.popleft()
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
        """Instructions that may run before somebody else's turn."""
        return min(most, self.left) if self.queue else most

    def charge(self, used: int) -> None:
        if self.queue:
            self.left -= used

    # Sleepers.

    def sleep_until(self, deadline_ns: int, task: Task) -> None:
        self._order += 1
        heapq.heappush(self._sleepers, (deadline_ns, self._order, task))

    def deadline(self) -> int | None:
        """The next moment at which a sleeper wakes by the clock, ns."""
        while self._sleepers:
            deadline_ns, _, task = self._sleepers[0]
            if task.state == BLOCKED and task.blocked and task.blocked.deadline_ns == deadline_ns:
                return deadline_ns
            heapq.heappop(self._sleepers)
        return None

    def overdue(self, now_ns: int) -> Task | None:
        """A sleeper whose deadline has passed; it must be woken before the next question."""
        deadline_ns = self.deadline()
        if deadline_ns is None or deadline_ns > now_ns:
            return None
        return heapq.heappop(self._sleepers)[2]
