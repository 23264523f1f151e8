"""A process that runs a guest gives up what it does not need, before it reads the guest.

The executor and the kernel model keep a guest in its tree. This is for the case that one of them
has a defect: from here on this process can write only where it says, can use no network and signal
no other process (Landlock), and can't make the system calls that reach into other processes and the
kernel, nor start programs if it need not (a filter). Neither needs root. A system that lacks one
leaves the process without it.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from shstk.confined import landlock, seccomp
from shstk.tracer.rerun.user_cache import user_cache

OFF: Final = "SHSTK_UNCONFINED"

_PR_SET_NO_NEW_PRIVS: Final = 38


def confine(writable: Iterable[Path | None], tcp: bool = False, programs: bool = False) -> str:
    """Restrict this process, and say how far. writable: what it may still write; None is left out.
    tcp: it may still listen and connect; programs: and start others. No other thread must run yet:
    Landlock would not restrict it."""
    if os.environ.get(OFF):
        return f"not restricted ({OFF} is set)"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    lacking = {
        "Landlock": landlock.restrict(libc, writable, tcp),
        "seccomp": seccomp.restrict(libc, tcp, programs),
    }
    by = [name for name, why in lacking.items() if not why]
    told = f"restricted by {' and '.join(by)}" if by else "not restricted"
    why = "; ".join(filter(None, lacking.values()))
    return f"{told} ({why})" if why else told


def scratch() -> Iterator[Path]:
    """Where runs lie that nobody keeps, semaphores, checkpoints and derived tables."""
    yield Path(tempfile.gettempdir())
    yield Path("/dev/shm")
    yield from caches()


def caches() -> Iterator[Path]:
    for name in ("checkpoints", "derived"):
        if cache := user_cache(name):
            with suppress(OSError):  # it must exist: its parent is more than may be written
                cache.mkdir(parents=True, exist_ok=True)
                yield cache
