"""The system calls of time/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.time import clock, setting, timers

CALLS: Final = (
    *clock.CALLS,
    *setting.CALLS,
    *timers.CALLS,
)
