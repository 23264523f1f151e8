"""Who runs next: a seeded quantum, a run queue, sleepers on the virtual clock."""

from __future__ import annotations

import heapq
import random
from collections import deque
from typing import Final

from tracer.kernel.task import RUNNABLE, Task

QUANTUM: Final = (10_000, 50_000)  # instructions, both ends included


class Scheduler:
    """Round robin. A quantum counts only while somebody else is runnable, so that how a lone
    task's run is cut into slices never shows."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"quantum {seed}")
        self.queue: deque[Task] = deque()  # runnable, without `running`
        self.running: Task | None = None
        self.left = 0  # of the running task's quantum
        self.sleepers: list[tuple[int, int, Task]] = []  # (deadline_ns, tid, task), a heap

    def add(self, task: Task) -> None:
        if task is not self.running and task not in self.queue:
            self.queue.append(task)

    def remove(self, task: Task) -> None:
        if task is self.running:
            self.running = None
        elif task in self.queue:
            self.queue.remove(task)

    def sleep_until(self, deadline_ns: int, task: Task) -> None:
        heapq.heappush(self.sleepers, (deadline_ns, task.tid, task))

    def next(self) -> Task | None:
        """The task to run now; None if nobody can."""
        if self.running is not None and (self.left > 0 or not self.queue):
            return self.running
        if self.running is not None:
            self.queue.append(self.running)
            self.running = None
        while self.queue:
            task = self.queue.popleft()
            if task.state == RUNNABLE:
                self.running = task
                low, high = QUANTUM
                self.left = low + int(self.rng.random() * (high - low + 1))
                return task
        return None
