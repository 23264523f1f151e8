"""O_ASYNC: SIGIO to the owner of a descriptor when its readiness changes (fs/fcntl.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import O_ASYNC, SI_KERNEL, SIGNALS
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.files import OpenFile
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task


class Asynchronous:
    """The open file descriptions with O_ASYNC."""

    def __init__(self) -> None:
        self.files: dict[OpenFile, None] = {}


_ASYNCHRONOUS: Final = Slot(Asynchronous)


def signal_owners(k: Kernel, file: OpenFile) -> None:
    """kill_fasync: send SIGIO to the owners of the file's O_ASYNC descriptions."""
    for other in _ASYNCHRONOUS.of(k).files:
        if other.inode is not file.inode:
            continue
        for process in list(k.processes.values()):
            if process.pid == other.owner or process.pgid == -other.owner:
                signals.send(k, process, SIGNALS["SIGIO"], SI_KERNEL)


def switch(k: Kernel, file: OpenFile, on: bool) -> None:
    if on:
        file.flags |= O_ASYNC
        _ASYNCHRONOUS.of(k).files[file] = None
    else:
        file.flags &= ~O_ASYNC
        closed(k, file)


def closed(k: Kernel, file: OpenFile) -> None:
    _ASYNCHRONOUS.of(k).files.pop(file, None)


def set_owner(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """F_SETOWN: a pid, or a negated process group. Errno ESRCH."""
    owner = (arg & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
    known = (p.pid if owner > 0 else -p.pgid for p in k.processes.values())
    if owner and owner not in known:
        raise Errno("ESRCH")
    t.files.get(fd).owner = owner
    return 0


def get_owner(k: Kernel, t: Task, fd: int, arg: int) -> int:
    return t.files.get(fd).owner


def set_signal(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """F_SETSIG: the signal is always SIGIO."""
    t.files.get(fd)
    if arg & 0xFFFF_FFFF:
        k.warn("fcntl: F_SETSIG is not modelled (EINVAL): only SIGIO is sent")
        raise Errno("EINVAL")
    return 0
