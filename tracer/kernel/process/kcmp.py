"""kcmp: whether two tasks share something (kernel/kcmp.c)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    KCMP_EPOLL_TFD,
    KCMP_FILE,
    KCMP_FILES,
    KCMP_FS,
    KCMP_IO,
    KCMP_SIGHAND,
    KCMP_SYSVSEM,
    KCMP_VM,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.epoll import Epoll
from shstk.tracer.kernel.ipc.sysvsem import SEMAPHORES
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import ptrace
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

EQUAL, LESS, GREATER = 0, 1, 2


class Ranks:
    """What has been compared and was different, in that order: the order of the answers."""

    def __init__(self) -> None:
        self._seen: list[object] = []

    def rank(self, thing: object) -> int:
        for i, other in enumerate(self._seen):
            if other is thing:
                return i
        self._seen.append(thing)
        return len(self._seen) - 1


_RANKS: Final = Slot(Ranks)

_SHARED: Final[dict[int, Callable[[Kernel, Task], object]]] = {
    KCMP_VM: lambda k, t: t.mm,
    KCMP_FILES: lambda k, t: t.files,
    KCMP_FS: lambda k, t: t.fs,
    KCMP_SIGHAND: lambda k, t: t.process.sighand,
    KCMP_IO: lambda k, t: None,
    KCMP_SYSVSEM: lambda k, t: SEMAPHORES.of(k).undos.get(t),
}


def sys_kcmp(k: Kernel, t: Task, a: Args) -> int:
    tasks = [k.find(pid & 0xFFFF_FFFF) for pid in a[:2]]
    first, second = tasks
    if first is None or second is None:
        raise Errno("ESRCH")
    if not ptrace.may_access(t, first) or not ptrace.may_access(t, second):
        raise Errno("EPERM")
    kind = a[2] & 0xFFFF_FFFF
    if kind == KCMP_FILE:
        return _compare(k, _file(first, a[3]), _file(second, a[4]))
    if kind == KCMP_EPOLL_TFD:
        return _compare(k, _file(first, a[3]), _watched(k, t, second, a[4]))
    if kind not in _SHARED:
        raise Errno("EINVAL")
    return _compare(k, _SHARED[kind](k, first), _SHARED[kind](k, second))


def _compare(k: Kernel, first: object, second: object) -> int:
    if first is second:
        return EQUAL
    ranks = _RANKS.of(k)
    return LESS if ranks.rank(first) < ranks.rank(second) else GREATER


def _file(t: Task, fd: int) -> object:
    return t.files.get(fd, path_only=True)


def _watched(k: Kernel, t: Task, other: Task, addr: int) -> object:
    """struct kcmp_epoll_slot: efd, tfd, toff. Errno EBADF, EINVAL, ENOENT."""
    epoll_fd, fd, nth = struct.unpack("<III", usermem.get(k, t, addr, 12))
    epoll = _file(other, epoll_fd)
    if not isinstance(epoll, Epoll):
        raise Errno("EINVAL")
    watched = [file for number, file in epoll.interests if number == fd]
    if nth >= len(watched):
        raise Errno("ENOENT")
    return watched[nth]


CALLS: Final = (Call("kcmp", sys_kcmp, why="no task has an I/O context (KCMP_IO)"),)
