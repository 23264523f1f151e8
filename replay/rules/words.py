"""How findings print sizes, addresses, tasks and stacks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shstk.replay.derive.history import Task
from shstk.replay.derive.rows import Area, Mapping
from shstk.replay.facts import Facts
from shstk.schemas.uapi import ERRNO_NAMES, PAGE

_TOLD: Final = 8  # areas


def size(count: int | None) -> str:
    if count is None:
        return "a size that is not recorded"
    for unit, letter in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count and count % unit == 0:
            return f"{count // unit} {letter}"
    return f"{count} bytes"


def address(value: int | None) -> str:
    return "unknown" if value is None else f"{value:#x}"


def result(ret: int | None) -> str:
    """A return value as strace prints it."""
    if ret is None:
        return "no return"
    return f"-{ERRNO_NAMES[-ret]}" if -ret in ERRNO_NAMES else str(ret)


def areas(rows: Iterable[Mapping]) -> str:
    """The areas that were mapped or unmapped; of many, the first."""
    told = [str(m.area) for m in rows]
    if len(told) > _TOLD:
        told[_TOLD - 1 :] = [f"{len(told) - _TOLD + 1} more"]
    return ", ".join(told) or "nothing"


def area(what: Area | None) -> str:
    return str(what) if what else "nothing"


def pages(length: int) -> str:
    return f"{length // PAGE} pages"


def on_whose(facts: Facts, task: Task, ssp: int, seq: int) -> str:
    """The stack that an ssp of this task is on."""
    stack = facts.ledger.on(task.mm, ssp, seq)
    if stack is None:
        return f"ssp {ssp:#x} is on no shadow stack"
    place = "the top of " if stack.area.top == ssp else ""
    return f"ssp {ssp:#x} is {place}{stack.name}" if place else f"ssp {ssp:#x} is on {stack.name}"
