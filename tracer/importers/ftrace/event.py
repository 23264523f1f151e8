"""One event of a trace, whether it was printed or is in a trace.dat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from shstk.tracer.importers.ftrace.probes import ALIASES

LOST: Final = (
    "lost events"  # an event in the place of those that were lost; count: how many, if known
)
# The fields without which an event says nothing; other events are used as far as they go.
_NEEDED: Final = {
    "sys_enter": ("id",),
    "sys_exit": ("id", "ret"),
    "sched_process_fork": ("pid", "child_pid"),
    "sched_process_exec": ("pid", "old_pid"),
    "sched_process_exit": ("pid",),
    "sched_switch": ("prev_pid", "next_pid"),
    "sched_wakeup_new": ("pid",),
    "signal_deliver": ("sig",),
    "ss_map": ("len",),
    "ss_unmap": ("start", "len"),
    "ss_unmap_ret": ("ret",),
    "ss_own_map": ("len",),
    "ss_own_unmap": ("start", "len"),
    "ss_exit": ("code",),
    "ss_wake": ("uaddr",),
}


@dataclass(frozen=True, slots=True)
class Event:
    """name: as `probes` has it. values: of its fields, integers or text. args: of a system call."""

    pid: int  # the task that ran
    cpu: int
    name: str
    values: dict[str, int | str] = field(default_factory=dict)
    args: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it has the integers that it can't do without."""
        return all(isinstance(self.values.get(n), int) for n in _NEEDED.get(self.name, ()))

    def number(self, name: str) -> int | None:
        """An integer field; None if it has none of this name."""
        value = self.values.get(name)
        return value if isinstance(value, int) else None

    def text(self, name: str) -> str:
        value = self.values.get(name)
        return value if isinstance(value, str) else ""


def named(name: str) -> str:
    """An event's name among those of `probes`."""
    return ALIASES.get(name, name)
