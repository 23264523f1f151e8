"""The system call table: the rows of every module, by number."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Final

from tracer.kernel.call import Call

_MODULES: Final = (
    "clone",
    "exec",
    "exit",
    "wait",
    "futex",
    "mmap",
    "shstk",
    "prctl",
    "limits",
    "ids",
    "sigcalls",
    "sigframe",
    "ptrace",
    "files",
    "clock",
    "misc",
)


def _merge() -> dict[int, Call]:
    table: dict[int, Call] = {}
    for name in _MODULES:
        path = f"tracer.kernel.{name}"
        if importlib.util.find_spec(path) is None:
            continue
        for call in getattr(importlib.import_module(path), "CALLS", ()):
            assert call.nr not in table, f"two handlers for call {call.nr}"
            table[call.nr] = call
    return table


CALLS: Final = _merge()
