"""Notices that a run is executed otherwise than it was recorded.

The places of gdb's stops are those of the record. A run of another build, whose kernel model did
something else, would be shown at wrong ones.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from shstk.schemas.errors import BadRun
from shstk.schemas.seq import STEPS, show
from shstk.schemas.values import Values, by_name
from shstk.tracer.recording.nothing import NullRecorder

if TYPE_CHECKING:
    from shstk.replay.run import Run

# Tables with a hash over a task's registers, at each switch and each return of a call.
_TABLES: Final = ("sched", "syscalls")


class HeldRecorder(NullRecorder):
    """Compares the rows of _TABLES with the run's. Raises BadRun at the first that differs."""

    keeps = True

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._known = cache(self._read)
        self._end = (run.manifest.icount + 1) * STEPS

    def row(self, table: str, /, **columns: Any) -> None:
        if table in _TABLES:
            self._compare(table, columns)

    def add(self, table: str, values: Values) -> None:
        if table in _TABLES:
            self._compare(table, by_name(table, values))

    def _compare(self, table: str, columns: dict[str, Any]) -> None:
        if columns["seq"] >= self._end:
            return
        seq, missing = columns["seq"], object()
        if self._known(table).get(seq, missing) != columns["state_hash"]:
            raise BadRun(
                f"{self._run.name} is executed otherwise than it was recorded, from {show(seq)} on"
                f" (task {columns['tid']})",
                "another build of shstk has recorded it: `shstk replay` shows what differs;"
                " record the program again",
            )

    def _read(self, table: str) -> dict[int, int | None]:
        return dict(self._run.table(table).select("seq", "state_hash").iter_rows())
