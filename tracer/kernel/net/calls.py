"""The system calls of net/."""

from __future__ import annotations

from typing import Final

from shstk.tracer.kernel.net import sockcalls, sockopts

CALLS: Final = (
    *sockcalls.CALLS,
    *sockopts.CALLS,
)
