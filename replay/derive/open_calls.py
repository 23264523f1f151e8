"""The calls that had not returned at one time after another: a walk over what opens and ends them.

Going forward costs what happened in between; going back begins anew.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shstk.replay.derive.frames import Frame, events, fold_of

if TYPE_CHECKING:
    from shstk.replay.run import Run

_OPENS: Final = ("call", "push")  # at the seq of what the function did first


@dataclass(frozen=True, slots=True)
class Left:
    """Calls that a longjmp left at a seq, innermost first: (mm, callee)."""

    seq: int
    calls: list[tuple[int | None, int | None]]


class OpenCalls:
    """The open calls of all tasks."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._begin()

    def _begin(self) -> None:
        self._now = 0
        self._fold = fold_of(self._run, self._ended)
        self._left: dict[tuple[int, int | None], list[tuple[int, Left]]] = {}
        self._leaving: dict[int, Left] = {}  # by task, the last
        self._events: Iterator[tuple[Any, ...]] = (
            row for part in events(self._run) for row in part.iter_rows()
        )
        self._event = next(self._events, None)

    def of(self, tid: int, seq: int) -> list[Frame]:
        """A task's calls that had not returned before a seq, outermost first."""
        self._go(seq)
        return self._fold.open.get(tid, [])

    def left(self, tid: int, return_to: int, pushed: int, seq: int) -> Left | None:
        """The longjmp that left the call whose return address a task had pushed at a seq."""
        self._go(seq)
        calls = self._left.get((tid, return_to), [])
        held = bisect_right(calls, pushed, key=lambda call: call[0])
        return calls[held - 1][1] if held else None

    def _go(self, seq: int) -> None:
        if seq < self._now:
            self._begin()
        self._now = seq
        event = self._event
        while event and (event[0] < seq or (event[0] == seq and event[3] in _OPENS)):
            self._fold.take(*event)
            event = next(self._events, None)
        self._event = event

    def _ended(self, tid: int, frame: Frame, seq: int | None, how: str) -> None:
        if how != "unwound" or seq is None:
            return
        left = self._leaving.get(tid)
        if left is None or left.seq != seq:
            left = self._leaving[tid] = Left(seq, [])
        left.calls.append((frame.mm, frame.callee))
        calls = self._left.setdefault((tid, frame.return_to), [])
        insort(calls, (frame.call_seq, left), key=lambda call: call[0])  # at the end, or nearly
