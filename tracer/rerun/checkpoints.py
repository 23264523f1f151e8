"""The checkpoints of a guest that goes backwards: the user's cache, and those of this process.

The cache's are a third of a second apart. Those in memory are made close before a place that was
gone back to, because whoever goes back one instruction goes back another.
"""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Final

from shstk.tracer.rerun.checkpoint import NoCheckpoint, restore, save

if TYPE_CHECKING:
    from shstk.tracer.guest import Guest
    from shstk.tracer.rerun.checkpoint_cache import CheckpointCache

_APART: Final = 0.3  # seconds of execution between two of the cache
_COST: Final = 10  # and this multiple of the time that saving one takes
_MOST: Final = 256 << 20  # bytes in memory
# Before a place that was gone back to, at these distances. The last ones are an instant away.
NEAR: Final = (1_000_000, 50_000, 2_000)


class Checkpoints:
    """Of a guest that was just set up: its beginning is the first one."""

    def __init__(self, guest: Guest, cache: CheckpointCache) -> None:
        self._guest = guest
        self._cache = cache
        self._near: dict[int, bytes] = {}
        self._beginning = save(guest)
        self._apart = _APART
        self._cost = 0.0
        self._made = (0, time.monotonic())  # icount, and when

    def latest(self, icount: int) -> int:
        """The icount of the latest checkpoint at `icount` or earlier."""
        known = [0, self._cache.latest(icount) or 0, *(at for at in self._near if at <= icount)]
        return max(known)

    def restore_latest(self, icount: int) -> None:
        """Put the guest to `latest`, or to an earlier one if that can't be restored."""
        at = self.latest(icount)
        if at == 0:
            restore(self._guest, self._beginning)
        elif at in self._near:
            restore(self._guest, self._near[at])
        else:
            self._restore_cached(icount)
        self._made = (self._guest.machine.icount, time.monotonic())

    def _restore_cached(self, icount: int) -> None:
        for data in chain(self._cache.before(icount), (self._beginning,)):
            with suppress(NoCheckpoint):
                restore(self._guest, data)
                return

    def passing(self) -> None:
        """The guest is between two slices: store a checkpoint if the last one is far away."""
        at, when = self._made
        icount, now = self._guest.machine.icount, time.monotonic()
        if now - when < max(self._apart, _COST * self._cost) or icount <= at:
            return
        if self.latest(icount) <= at and self._cache.add(icount, self._saved()):
            self._apart *= 2
        self._made = (icount, time.monotonic())

    def places_before(self, icount: int) -> list[int]:
        """Where checkpoints near a place are worth their cost, on the way there from where the
        guest is."""
        here = self._guest.machine.icount
        places = [icount - distance for distance in NEAR if icount - distance > here]
        return places if self._cost < 0.1 else places[-1:]

    def keep(self) -> None:
        """Store a checkpoint in memory."""
        while self._near and sum(map(len, self._near.values())) > _MOST:
            del self._near[next(iter(self._near))]
        self._near[self._guest.machine.icount] = self._saved()

    def _saved(self) -> bytes:
        began = time.monotonic()
        data = save(self._guest)
        self._cost = time.monotonic() - began
        return data
