"""What is known of each recorded task and address space while a trace is read in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shstk.schemas.uapi import PAGE
from shstk.tracer.importers.rows import Row, Rows


@dataclass
class Space:
    """An address space. areas: its shadow stacks, [from, to)."""

    number: int
    row: Row
    areas: list[tuple[int, int]] = field(default_factory=list)

    def touched(self, start: int, length: int) -> bool:
        """Whether a shadow stack reaches into a range."""
        return any(low < start + length and start < high for low, high in self.areas)

    def cut(self, start: int, length: int) -> None:
        """Take a range out of the shadow stacks."""
        end = start + length
        parts = []
        for low, high in self.areas:
            parts += [(low, min(high, start)), (max(low, end), high)]
        self.areas = [(low, high) for low, high in parts if low < high]


@dataclass
class Call:
    """A system call that has not ended. nr, args as it began with."""

    nr: int
    args: tuple[int, ...]
    row: Row
    attempt: Row | None = None  # the clone attempt
    unmapped: bool = False  # a row of the unmapping is there


@dataclass
class Task:
    """A task of the recorded program. pid: its process.

    mapping, unmapping, waking: the arguments of the do_mmap, munmap or futex_wake that it is in.
    """

    tid: int
    pid: int
    space: Space | None
    ssp: int | None = None
    call: Call | None = None
    restarts: tuple[Call, int] | None = None  # the last call, if it ended with -ERESTART…
    entered: bool = False  # it has been in user mode
    booting: bool = False  # the run begins in its exec
    exec: Row | None = None  # its exec_begin
    fresh: bool = False  # in an exec: it has the new address space
    exec_ssp: int | None = None  # in an exec: what ssp is set to
    exit: Row | None = None  # its exit_begin
    dropped: bool = False
    clear_tid: int = 0
    mapping: dict[str, int] = field(default_factory=dict)
    unmapping: tuple[int, int] | None = None
    waking: int | None = None
    signal: int | None = None  # the last that was delivered to no handler


class Told:
    """The rows of tasks, as a trace tells them."""

    def __init__(self) -> None:
        self.rows = Rows()
        self._spaces = 0

    def put(self, table: str, task: Task, **columns: Any) -> Row:
        mm = task.space.number if task.space else None
        return self.rows.put(
            table, **{"seq": self.rows.step(), "tid": task.tid, "mm": mm, **columns}
        )

    def event(self, task: Task, kind: str, **columns: Any) -> Row:
        return self.put("task_events", task, kind=kind, **{"ssp": task.ssp, **columns})

    def space(self, task: Task, cause: str, old: Space | None) -> Space:
        """A new address space that a task gets."""
        self._spaces += 1
        row = self.rows.put(
            "mms",
            seq=self.rows.step(),
            tid=task.tid,
            mm=self._spaces,
            from_mm=old.number if old else None,
            cause=cause,
            seq_end=None,
        )
        areas = list(old.areas) if old and cause == "fork" else []
        return Space(self._spaces, row, areas)

    @staticmethod
    def during(task: Task) -> int | None:
        """The seq of the call or the exit that a task is in."""
        inside = task.exit or (task.call.row if task.call else None)
        return inside["seq"] if inside else None


def page_align(length: int) -> int:
    return (length + PAGE - 1) // PAGE * PAGE
