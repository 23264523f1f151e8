"""Names for file descriptors: their numbers depend on scheduling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from shstk.replay.derive.history import Task
from shstk.schemas.syscalls import SYSCALLS
from shstk.schemas.uapi import CLONE_FILES, F_DUPFD, F_DUPFD_CLOEXEC

_STANDARD: Final = {0: "stdin", 1: "stdout", 2: "stderr"}
_DUPLICATE: Final = frozenset({"dup", "dup3"})

# The name of what a call opens; a call that names a path gives that path instead.
_OPENED: Final[dict[str, str]] = {
    "socket": "socket",
    "accept": "connection",
    "accept4": "connection",
    "eventfd2": "eventfd",
    "epoll_create1": "epoll",
    "memfd_create": "memfd",
    "signalfd4": "signalfd",
    "timerfd_create": "timerfd",
    "inotify_init1": "inotify",
    "pidfd_open": "pidfd",
    "io_uring_setup": "io_uring",
}
# Call → the argument that points to the int[2] it stores, and the names of the two descriptors.
_PAIRS: Final[dict[str, tuple[int, str, str]]] = {
    "pipe2": (0, "pipe's read end", "pipe's write end"),
    "socketpair": (3, "socket pair", "socket pair"),
}


def opens(name: str, args: Sequence[int]) -> bool:
    """Whether the call returns a descriptor."""
    return (name in SYSCALLS and SYSCALLS[name].returns == "fd") or _duplicates(name, args)


def _duplicates(name: str, args: Sequence[int]) -> bool:
    by_fcntl = name == "fcntl" and args[1] in (F_DUPFD, F_DUPFD_CLOEXEC)
    return by_fcntl or name in _DUPLICATE


class Descriptors:
    """The descriptor tables of a run's tasks. Its calls must be passed in order."""

    def __init__(self) -> None:
        self._of: dict[Task, dict[int, str]] = {}

    def name(self, task: Task, fd: int) -> str:
        """`<what was opened>`, or the number if unknown."""
        known = self._table(task).get(fd)
        return f"<{known}>" if known else str(fd)

    def cloned(self, parent: Task, child: Task, flags: int) -> None:
        table = self._table(parent)
        self._of[child] = table if flags & CLONE_FILES else dict(table)

    def called(
        self,
        task: Task,
        name: str,
        args: Sequence[int],
        ret: int,
        path: str | None,
        stored: Callable[[int], bytes | None],
    ) -> None:
        """Update for a call that succeeded. path: its path argument. stored: bytes it wrote, by
        address."""
        table = self._table(task)
        if name == "execve":
            self._of[task] = dict(table)  # no longer shared
        elif _duplicates(name, args):
            table[ret] = table.get(args[0], f"copy of {args[0]}")
        elif opens(name, args):
            table[ret] = _OPENED.get(name) or path or "file"
        elif name in _PAIRS:
            argument, *names = _PAIRS[name]
            ends = stored(args[argument]) or b""
            for at, end in zip(range(0, len(ends), 4), names, strict=False):
                table[int.from_bytes(ends[at : at + 4], "little")] = end

    def _table(self, task: Task) -> dict[int, str]:
        return self._of.setdefault(task, dict(_STANDARD))
