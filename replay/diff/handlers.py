"""When each task was in the handler of an external signal.

Where in a task's execution such a signal arrives depends on scheduling. The events of its handler
are therefore compared as a sequence of their own, apart from the task's other events.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from shstk.replay import decode
from shstk.replay.derive.history import Task
from shstk.replay.diff.tasks import Cast
from shstk.replay.facts import Facts

_FOREVER = 2**64


@dataclass(frozen=True)
class Handled:
    """From the seq of the delivery to that of the sigreturn, or to the run's end without one."""

    start: int
    end: int
    signal: str


class Handlers:
    def __init__(self, facts: Facts, cast: Cast, senders: bool) -> None:
        """senders: whether both runs know who sent a signal; if not, all are taken as external."""
        self._handled: dict[Task, list[Handled]] = {}
        entered: dict[Task, list[tuple[int, str | None]]] = {}  # deliveries that have not returned
        rows = facts.run.table("signals").select("seq", "tid", "kind", "signo", "si_addr", "sender")
        for seq, tid, kind, signo, si_addr, sender in rows.iter_rows():
            task = cast.at(tid, seq)
            if task is None or kind == "fatal":
                continue
            stack = entered.setdefault(task, [])
            if kind == "delivery":
                outside = not senders or (si_addr is None and cast.at(sender, seq) is not task)
                stack.append((seq, decode.signal_name(signo) if outside else None))
            elif stack:
                self._returned(task, stack, seq)
        for task, stack in entered.items():
            while stack:
                self._returned(task, stack, _FOREVER)

    def _returned(self, task: Task, stack: list[tuple[int, str | None]], end: int) -> None:
        start, signal = stack.pop()
        if signal and not any(outer for _, outer in stack):
            self._handled.setdefault(task, []).append(Handled(start, end, signal))

    def at(self, task: Task, seq: int) -> str:
        """The external signal that the task was handling; empty if there was none."""
        handled = self._handled.get(task, [])
        last = bisect_right(handled, seq, key=lambda h: h.start) - 1
        return handled[last].signal if last >= 0 and seq <= handled[last].end else ""
