"""The system calls of mm/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.mm import advice, mmap, processvm, sysvshm

CALLS: Final = (
    *mmap.CALLS,
    *advice.CALLS,
    *processvm.CALLS,
    *sysvshm.CALLS,
)
