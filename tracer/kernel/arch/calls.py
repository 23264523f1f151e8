"""The system calls of arch/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.arch import hwprobe, shstk, sigframe

CALLS: Final = (
    *hwprobe.CALLS,
    *shstk.CALLS,
    *sigframe.CALLS,
)
