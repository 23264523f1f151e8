"""Attempts to create a task: the rows of clones."""

from __future__ import annotations

from typing import Final

from shstk.schemas.uapi import CLONED_AS, CSIGNAL
from shstk.tracer.importers.rows import Row
from shstk.tracer.realkernel.importer.state import Story, Task, number, read_back, words

CALLS: Final = ("clone", "clone3")
_GIVEN: Final = (
    *("flags", "stack", "stack_size", "tls", "parent_tid", "child_tid_addr", "exit_signal"),
)
# struct clone_args, in the names of the table's columns.
_CLONE_ARGS: Final = (
    *("flags", "pidfd", "child_tid_addr", "parent_tid", "exit_signal", "stack", "stack_size"),
    *("tls", "tids", "set_tid_size"),
)


def begin(s: Story, t: Task, name: str, a: tuple[int, ...]) -> Row:
    """The row of a call that begins. clone3's arguments are in memory (read_arguments)."""
    assert t.call is not None
    given = dict.fromkeys(_GIVEN, 0)
    api = name
    if name == "clone":
        api = CLONED_AS.get(a[0] & 0xFFFF_FFFF & ~CSIGNAL, name)
        given |= {
            "flags": a[0] & ~CSIGNAL,
            "exit_signal": a[0] & CSIGNAL,
            "stack": a[1],
            "parent_tid": a[2],
            "tls": a[3],
            "child_tid_addr": a[4],
        }
    unknown = dict.fromkeys(("set_tid", "child_tid", "ret", "seq_end"))
    return s.put("clones", t, seq=t.call["seq"], api=api, **given, **unknown)


def read_arguments(t: Task) -> None:
    """Fill in what clone3 has read so far; an argument that it never reads stays 0."""
    row, call = t.attempt, t.call
    if row is None or call is None or row["api"] != "clone3":
        return
    data = read_back(t, call["a0"], min(call["a1"], 8 * len(_CLONE_ARGS)))
    given = dict(zip(_CLONE_ARGS, words(data), strict=False))
    row |= {name: given[name] for name in _GIVEN if name in given}
    row["exit_signal"] &= 0xFFFF_FFFF
    if given.get("tids") and given.get("set_tid_size"):
        first = read_back(t, given["tids"], 4)
        row["set_tid"] = number(first) if len(first) == 4 else None
