"""The system calls of mm/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.mm import advice, locking, mmap, processvm, remap, sysvshm

CALLS: Final = (
    *mmap.CALLS,
    *remap.CALLS,
    *advice.CALLS,
    *locking.CALLS,
    *processvm.CALLS,
    *sysvshm.CALLS,
)
