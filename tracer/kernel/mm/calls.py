"""The system calls of mm/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.mm import mmap, processvm, sysvshm

CALLS: Final = (
    *mmap.CALLS,
    *processvm.CALLS,
    *sysvshm.CALLS,
)
