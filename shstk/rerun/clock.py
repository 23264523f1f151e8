"""The virtual time of a run, which no table holds: the clock jumps while every task waits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from shstk.rerun.compare import Alarm, replay
from shstk.schemas import seq as positions
from shstk.schemas.errors import BadRun
from shstk.tracer.options import Running

if TYPE_CHECKING:
    from shstk.replay.run import Run
    from shstk.tracer.guest import Guest


def switch_times(run: Run, **running: Unpack[Running]) -> dict[int, int]:
    """The seq of each switch of tasks (table sched), and the virtual time at it, in ns since boot.

    Executes the run again. Raises BadRun if it was not recorded from a program, or if the second
    execution disagrees with the record.
    """
    times: dict[int, int] = {}

    def watch(guest: Guest) -> Iterable[Alarm]:
        def note(seq: int) -> None:
            times[seq] = guest.k.now_ns()

        guest.k.on_switch = note
        return ()

    found = replay(run, alarms=watch, **running).disagreement
    if found is not None:
        where = f"{positions.show(found.at.seq)} ({found.at.table})"
        raise BadRun(
            f"{run.name}: executed again, the run disagrees at {where}",
            "its virtual time is not known; `shstk replay` shows the difference",
        )
    return times
