"""Where the user's caches are, and the build of the tracer that they belong to."""

from __future__ import annotations

import functools
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from shstk.tracer import _core


def user_cache(name: str) -> Path | None:
    """A directory of the user's cache; None: the user has no home directory."""
    with suppress(RuntimeError):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(home) / "shstk" / name
    return None


@functools.cache
def build() -> bytes:
    """A hash over the tracer's own files: objects of another version may have other attributes."""
    tracer = Path(__file__).parents[1]
    files = [*sorted(tracer.rglob("*.py")), Path(_core.__file__)]
    return hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)).digest()
