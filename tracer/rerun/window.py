"""The instructions of a part of a run, obtained by executing it again.

The first time, the run is executed without recording, and checkpoints are stored on the way. Then a
window costs only the execution from the nearest checkpoint before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from shstk.schemas.seq import STEPS
from shstk.schemas.tables import WINDOWED
from shstk.tracer.kernel import loop
from shstk.tracer.recording.nothing import NullRecorder
from shstk.tracer.recording.recorder import Buffers, core_batch, trace_bits
from shstk.tracer.rerun.checkpoint import NoCheckpoint, restore, save

if TYPE_CHECKING:
    from shstk.tracer.guest import Guest
    from shstk.tracer.kernel.kernel import Recorder
    from shstk.tracer.rerun.checkpoint_cache import CheckpointCache

_PIECE: Final = 1 << 19  # instructions between two batches


@dataclass(frozen=True)
class Spacing:
    """The minimum distance of checkpoints."""

    seconds: float = 0.3  # of the host
    cost: float = 10  # and this multiple of the time that saving one takes


def rows(
    set_up: Callable[[Recorder, int], Guest],
    cache: CheckpointCache,
    first_seq: int,
    last_seq: int,
    *,
    tables: tuple[str, ...] = ("insn",),
    until: int | None = None,
    on_progress: Callable[[int], None] = lambda icount: None,
    spacing: Spacing = Spacing(),
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """(table, batch) for the rows of `tables` from first_seq to last_seq, as a recording of the
    whole run with --trace insn has them, in seq order within each table.

    tables: of WINDOWED. set_up: makes the guest anew (setup.set_up_again), given the recorder and
    the tracing level. until: the icount at which the run ended. on_progress: gets the icount now
    and then, on the way to the window too.
    """
    first = max(-(-first_seq // STEPS), 1)
    last = last_seq // STEPS if until is None else min(last_seq // STEPS, until)
    if first > last:
        return
    window = _Rows()
    guest = set_up(window, 0)
    if travel(guest, first - 1, cache, on_progress, spacing) is not None:
        return

    def poll() -> None:
        on_progress(guest.machine.icount)

    guest.machine.trace = trace_bits(tables)
    ending = None
    while ending is None and (at := guest.machine.icount) < last:
        ending = loop.advance(guest.k, min(at + _PIECE, last), poll=poll)
        window.drain(guest.machine)
        yield from window.take()


def travel(
    guest: Guest,
    icount: int,
    cache: CheckpointCache,
    on_progress: Callable[[int], None] = lambda icount: None,
    spacing: Spacing = Spacing(),
) -> str | None:
    """Advance a guest that was just set up to `icount`, from the nearest checkpoint, and store more
    checkpoints on the way. Returns the ending if the guest ended before, otherwise None."""
    for data in cache.before(icount):
        try:
            restore(guest, data)
            break
        except NoCheckpoint:
            continue
    made_at, apart = guest.machine.icount, spacing.seconds
    next_one = time.monotonic() + apart

    def poll() -> str | None:
        at = guest.machine.icount
        on_progress(at)
        return _PAUSE if at > made_at and time.monotonic() >= next_one else None

    while (ending := loop.advance(guest.k, icount, poll=poll)) == _PAUSE:
        made_at, began = guest.machine.icount, time.monotonic()
        if cache.add(made_at, save(guest)):
            apart *= 2
        now = time.monotonic()
        next_one = now + max(apart, spacing.cost * (now - began))
    return ending


_PAUSE: Final = "pause"  # not one of schemas.vocabulary.ENDINGS


class _Rows(NullRecorder):
    """Keeps the executor's rows until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._batches: list[tuple[str, pa.RecordBatch]] = []

    def drain(self, machine: Buffers) -> None:
        for table in WINDOWED:
            if machine.pending(table):
                self._batches.append((table, core_batch(table, machine.drain(table))))

    def take(self) -> list[tuple[str, pa.RecordBatch]]:
        taken, self._batches = self._batches, []
        return taken
