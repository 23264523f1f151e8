"""Execute a run again from its directory alone, and compare it with the record."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Unpack

from shstk.replay.disagreement import Disagreement, locate
from shstk.replay.hold import Difference, Hold
from shstk.rerun.guest import set_up
from shstk.schemas.manifest import Manifest
from shstk.schemas.seq import STEPS
from shstk.tracer.kernel import loop
from shstk.tracer.options import Running
from shstk.tracer.plugins.session import Finished, Plugins
from shstk.tracer.recording.recorder import Collector, Sink, trace_bits

if TYPE_CHECKING:
    from shstk.plugin import Plugin
    from shstk.replay.run import Run
    from shstk.tracer.guest import Guest

# Turns of the loop that a guest which only sleeps may take past the record's last instruction.
_PATIENCE: Final = 1 << 14
# Manifest fields that describe the end of a complete run.
_ENDED: Final = ("auxv", "ending", "exit_status", "icount", "warnings")

Alarm = tuple[int, Callable[[], None]]


@dataclass(frozen=True)
class Replayed:
    """agreed: rows of each table that were the same, up to the disagreement. icount: instructions
    executed. whole: the run reached the program's own end, or that of --max-instructions."""

    agreed: dict[str, int]
    icount: int
    whole: bool
    disagreement: Disagreement | None
    plugins: tuple[Finished, ...] = ()


def replay(
    run: Run,
    *,
    until: int | None = None,
    alarms: Callable[[Guest], Iterable[Alarm]] = lambda guest: (),
    plugins: Sequence[Plugin] = (),
    trace: Iterable[str] = (),
    sink: Callable[[Hold], Sink] = lambda hold: hold,
    **running: Unpack[Running],
) -> Replayed:
    """Execute a run again and compare all its tables.

    until: a seq to stop after. alarms: (icount, callback) in ascending order, called at these
    icounts. plugins: observe the run and may stop it. trace: words of --trace whose rows are wanted
    too. sink: what receives all rows, and passes those to be compared on. Raises BadRun (the run
    was not recorded from a program), BadPlugin, KeyboardInterrupt.
    """
    manifest = run.manifest
    hold = Hold(run, until)
    rec = Collector(sink(hold))
    try:
        return _replay(run, hold, rec, alarms, plugins, {*manifest.traced, *trace}, running)
    finally:
        rec.stop()


def _replay(
    run: Run,
    hold: Hold,
    rec: Collector,
    alarms: Callable[[Guest], Iterable[Alarm]],
    plugins: Sequence[Plugin],
    traced: set[str],
    running: Running,
) -> Replayed:
    manifest = run.manifest
    patience = _PATIENCE
    interrupted = running.get("interrupted")

    def stop() -> bool:
        nonlocal patience
        if hold.open_end and guest.machine.icount >= hold.last_icount:
            patience -= 1
        return hold.disagrees or patience < 0 or (interrupted is not None and interrupted())

    # One instruction beyond the record is a difference, and enough to see it.
    natural = hold.to_the_end and manifest.ending != "limit"
    running["interrupted"] = stop
    watching = Plugins(plugins, rec, trace_bits(traced))
    guest = set_up(
        run,
        watching.recorder,
        watching.trace,
        max_instructions=hold.last_icount + natural,
        **running,
    )
    watching.attach(guest.k)
    stopped_at = None
    try:
        ending = guest.run(merge(alarms(guest), watching.alarms(), key=itemgetter(0)))
    except Exception:
        # After a disagreement the guest may do what the kernel model does not support.
        loop.close(guest.k)
        rec.finish()
        difference = hold.first_difference(guest.machine.icount)
        if difference is None:
            raise
    else:
        rec.finish()
        if ending == "stopped" or (ending == "interrupted" and patience >= 0):
            stopped_at = guest.machine.icount
        difference = hold.first_difference(stopped_at)
        if difference is None and stopped_at is not None and ending == "interrupted":
            raise KeyboardInterrupt
        if difference is None and stopped_at is None and hold.to_the_end:
            difference = _end_difference(manifest, guest, ending)
    finished = watching.finish()
    if watching.failure:
        raise watching.failure
    return Replayed(
        hold.agreed(difference.time if difference else None),
        guest.machine.icount,
        hold.to_the_end and stopped_at is None and difference is None,
        locate(run, difference, hold.tables) if difference else None,
        finished,
    )


def _end_difference(manifest: Manifest, guest: Guest, ending: str) -> Difference | None:
    now = {
        "auxv": tuple(struct.iter_unpack("<QQ", guest.auxv)),
        "ending": ending,
        "exit_status": guest.k.first.exit_status,
        "icount": guest.machine.icount,
        "warnings": tuple(guest.k.warnings),
    }
    differing = tuple(name for name in _ENDED if now[name] != getattr(manifest, name))
    if manifest.plugins:  # plugins add warnings too
        differing = tuple(name for name in differing if name != "warnings")
    if not differing:
        return None
    seq = manifest.icount * STEPS
    recorded = {name: getattr(manifest, name) for name in _ENDED}
    return Difference(
        "manifest", seq + STEPS, {"seq": seq, **recorded}, {"seq": seq, **now}, differing
    )
