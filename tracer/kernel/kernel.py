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

    def settle(self, task: Task, restart: bool) -> None:
        """End a call that gave RESTART or RESTART_NO_HAND, just before a handler's frame is built.

        restart: the ecall will run again (pc - 4, a0 restored) when the handler returns; else -EINTR.
        signals.deliver_pending calls it if `task.restart is not None`:
        `k.settle(t, restart=t.restart and bool(action.flags & SA_RESTART))`. If no handler is
        entered, the kernel itself restarts the call afterwards.
        """
        raise NotImplementedError
