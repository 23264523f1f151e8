"""What a system call is to the table, and the ways one can end other than with a number."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

Args = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Wait:
    """The task blocks; when it wakes its handler is called again with the same arguments.

    Woken by `Kernel.wake_key(key)`, by the virtual clock reaching `deadline_ns`, or (if
    `interruptible`) by a signal; `Task.blocked.woken` says which: "key", "deadline" or "signal".
    `reason` is for messages: "futex", "wait4", "pipe".
    """

    reason: str
    key: Hashable | None = None
    deadline_ns: int | None = None
    interruptible: bool = True


class End(Enum):
    """Endings without a number of their own."""

    NO_RETURN = "the call set the registers itself, or its task is gone"
    RESTART = "ERESTARTSYS: run again, unless a handler without SA_RESTART comes first"
    RESTART_NO_HAND = "ERESTARTNOHAND: run again, unless any handler comes first"
    RESTART_ALWAYS = "ERESTARTNOINTR: run again whatever comes first"


NO_RETURN = End.NO_RETURN
RESTART = End.RESTART
RESTART_NO_HAND = End.RESTART_NO_HAND
RESTART_ALWAYS = End.RESTART_ALWAYS

Outcome = int | Wait | End


class Interrupted(Exception):
    """From within a call: it ends with RESTART, since a signal was sent that comes first."""


Handler = Callable[["Kernel", "Task", Args], Outcome]


@dataclass(frozen=True)
class Call:
    """One row of the system call table; its number is that of the name in schemas.

    klass: "modelled" (as Linux does), "simple" (a constant or nearly so) or "refused" (always an
    errno, although a kernel could do more); why: for simple and refused, what was left out.
    """

    name: str
    handler: Handler
    klass: str = "modelled"
    why: str = ""
