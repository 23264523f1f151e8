"""Judging without Python's collector of cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing that is derived from a run is let go before the end, so the collector finds nothing;
    but it walks all of it each time there is a quarter more. With 20,000 forks that was two thirds
    of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
