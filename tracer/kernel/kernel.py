"""The kernel of one run: what it owns, and the loop that drives the harts."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Protocol

from schemas.revisions import Revision
from schemas.seq import STEPS
from tracer.kernel.sched import Scheduler
from tracer.kernel.task import Process, Task

if TYPE_CHECKING:
    from tracer._core import Machine


class Recorder(Protocol):
    """What the kernel asks of tracer.recorder (or of NullRecorder)."""

    def row(self, table: str, /, **columns: Any) -> None: ...
    def drain(self, machine: Machine) -> None: ...
    def input(self, guest_path: str, data: bytes, mode: int, seq: int) -> int: ...


class Kernel:
    machine: Machine
    rec: Recorder
    row: Revision
    abi: str  # "merged" | "own"
    cpu: frozenset[str]  # {"zicfiss", "zicfilp"}
    nousercfi: bool
    seed: int
    rng: random.Random  # getrandom, AT_RANDOM
    sched: Scheduler
    tasks: dict[int, Task]  # tid -> live or zombie
    processes: dict[int, Process]
    current: Task
    during: int | None  # seq of the call or task event in progress, for rows' `during`
    warnings: list[str]
    memory: int | None  # bytes of the machine, for overcommit
    stdout_write: Callable[[int, bytes], None]  # fd, bytes: an output row and pass-through

    def seq(self) -> int:
        """The next kernel step at this icount."""
        raise NotImplementedError(STEPS)

    def now_ns(self) -> int:
        """Virtual time since boot: one ns an instruction, plus what was slept while idle."""
        raise NotImplementedError

    def event(self, kind: str, task: Task, **columns: Any) -> int:
        """One task_events row; its seq."""
        raise NotImplementedError

    def warn(self, message: str) -> None:
        """Once for each message."""
        raise NotImplementedError

    def wake(self, task: Task, why: str = "key") -> None:
        """Blocked -> runnable: its call is tried again, `blocked.woken` = why."""
        raise NotImplementedError

    def wake_key(self, key: Hashable, n: int = 1 << 30) -> int:
        """Wake up to n tasks blocked on `key`, longest waiting first; how many were."""
        raise NotImplementedError

    def settle(self, task: Task, sa_restart: bool) -> None:
        """End a call that gave a RESTART…, just before a handler's frame is built.

        signals.deliver_pending calls it if `task.restart is not None`, with the handler's
        SA_RESTART: either the ecall runs again when the handler returns (pc - 4, a0 restored), or
        a0 is -EINTR. If no handler is entered, the kernel restarts the call afterwards.
        """
        raise NotImplementedError
