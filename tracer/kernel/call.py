"""A row of the system call table, and the outcomes of a call that are not a return value."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

Args = tuple[int, int, int, int, int, int]


def i32(word: int) -> int:
    """An int argument, from the lower half of its register."""
    return (word & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)


def i64(word: int) -> int:
    """A long argument."""
    return (word ^ 1 << 63) - (1 << 63)


class Wait(NamedTuple):
    """The task blocks. When it wakes, its handler is called again with the same arguments.

    `Kernel.wake_key(key)` wakes it, or the virtual clock when it reaches `deadline_ns`, or (if
    `interruptible`) a signal. `Task.blocked.woken` is then "key", "deadline" or "signal".
    `also`: further keys that wake it. `reason` is for messages: "futex", "wait4", "pipe".
    """

    reason: str
    key: Hashable | None = None
    deadline_ns: int | None = None
    interruptible: bool = True
    also: tuple[Hashable, ...] = ()


class End(Enum):
    """Outcomes without a return value. Those of restarts are the kernel's own errnos, which only a
    tracer sees."""

    NO_RETURN = 0  # the call set the registers itself, or its task has exited
    RESTART = 512  # ERESTARTSYS: restart, unless a handler without SA_RESTART runs first
    RESTART_ALWAYS = 513  # ERESTARTNOINTR: restart in any case
    RESTART_NO_HAND = 514  # ERESTARTNOHAND: restart, unless any handler runs first
    RESTART_BLOCK = 516  # ERESTART_RESTARTBLOCK: restart_syscall, unless a handler runs


NO_RETURN = End.NO_RETURN
RESTART = End.RESTART
RESTART_NO_HAND = End.RESTART_NO_HAND
RESTART_ALWAYS = End.RESTART_ALWAYS
RESTART_BLOCK = End.RESTART_BLOCK

Outcome = int | Wait | End


class Interrupted(Exception):
    """Raised in a call that sent a signal to its own process group: it ends with RESTART."""


Handler = Callable[["Kernel", "Task", Args], Outcome]


class Interruption(NamedTuple):
    """A call that ended with RESTART_BLOCK (struct restart_block): a plain restart would begin its
    timeout anew. expires: as in Blocked."""

    handler: Handler
    args: Args
    expires: int | None


class Call(NamedTuple):
    """One row of the system call table. schemas/syscalls.py has the number of each name.

    klass: "modelled" (behaves as on Linux), "simple" (returns a constant, or nearly so) or
    "refused" (always fails, although a kernel could do more).
    why: what the model leaves out.
    """

    name: str
    handler: Handler
    klass: str = "modelled"
    why: str = ""
