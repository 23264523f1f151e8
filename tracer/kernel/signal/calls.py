"""The system calls of signal/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.signal import sigcalls

CALLS: Final = sigcalls.CALLS
