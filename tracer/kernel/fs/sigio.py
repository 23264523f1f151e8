"""Signals about descriptors: SIGIO (or F_SETSIG's signal) to the owner of one (fs/fcntl.c)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    F_OWNER_PGRP,
    F_OWNER_PID,
    F_OWNER_TID,
    O_ASYNC,
    SI_KERNEL,
    SI_SIGIO,
    SIGNALS,
)
from shstk.tracer.kernel.call import i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import NSIG, SIGCHLD, SYNCHRONOUS, bit
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.task import UID, Process, Siginfo, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.files import OpenFile
    from shstk.tracer.kernel.kernel import Kernel

POLL_IN, POLL_OUT, POLL_MSG = 1, 2, 3  # si_code
_BANDS: Final = {POLL_IN: 0x41, POLL_OUT: 0x304, POLL_MSG: 0x441}  # si_band, by si_code
_READABLE, _WRITABLE = 1, 4  # of OpenFile.ready
_OWN_CODES: Final = SYNCHRONOUS | bit(SIGCHLD)  # signals whose si_code means something else
_SIGIO, _SIGURG = SIGNALS["SIGIO"], SIGNALS["SIGURG"]
_OWNER_EX: Final = struct.Struct("<ii")  # struct f_owner_ex: type, pid


class Owner(NamedTuple):
    """kind: F_OWNER_TID, PID or PGRP."""

    kind: int
    id: int

    def targets(self, k: Kernel) -> Iterable[Task | Process]:
        if self.kind == F_OWNER_TID:
            return [t for t in k.tasks.values() if t.tid == self.id]
        of_group = self.kind == F_OWNER_PGRP
        return [p for p in k.processes.values() if (p.pgid if of_group else p.pid) == self.id]


class Asynchronous:
    """The open file descriptions with O_ASYNC, and the descriptor that set it."""

    def __init__(self) -> None:
        self.files: dict[OpenFile, int] = {}


_ASYNCHRONOUS: Final = Slot(Asynchronous)


def signal_owners(k: Kernel, file: OpenFile) -> None:
    """kill_fasync: signal the owners of the file's O_ASYNC descriptions."""
    for other, fd in list(_ASYNCHRONOUS.of(k).files.items()):
        if other.inode is file.inode:
            ready = other.ready(k)
            if ready & _READABLE:
                send(k, other, fd, POLL_IN)
            elif ready & _WRITABLE:
                send(k, other, fd, POLL_OUT)


def send(k: Kernel, file: OpenFile, fd: int, reason: int) -> None:
    """send_sigio(). A real-time signal that can't be queued becomes SIGIO."""
    if file.owner is None:
        return
    for target in file.owner.targets(k):
        plain = file.signal == 0 or (file.signal != _SIGIO and bit(file.signal) & _OWN_CODES)
        fields = struct.pack("<qi", _BANDS[reason], fd)
        code = SI_SIGIO if plain else reason
        if file.signal and signals.queue(k, target, Siginfo(file.signal, code, fields=fields)):
            continue
        signals.queue(k, target, Siginfo(_SIGIO, SI_KERNEL))


def urgent(k: Kernel, file: OpenFile) -> None:
    """send_sigurg(): SIGURG to the owner, with or without O_ASYNC."""
    for target in file.owner.targets(k) if file.owner is not None else ():
        signals.queue(k, target, Siginfo(_SIGURG, SI_KERNEL))


def switch(k: Kernel, file: OpenFile, on: bool, fd: int) -> None:
    if on:
        file.flags |= O_ASYNC
        _ASYNCHRONOUS.of(k).files[file] = fd
    else:
        file.flags &= ~O_ASYNC
        closed(k, file)


def closed(k: Kernel, file: OpenFile) -> None:
    _ASYNCHRONOUS.of(k).files.pop(file, None)


def _known(k: Kernel, id: int) -> bool:
    """find_vpid()."""
    return k.find(id) is not None or any(id in (p.pgid, p.sid) for p in k.all_processes())


def set_id(k: Kernel, file: OpenFile, arg: int) -> int:
    """F_SETOWN: a process, or a negated process group. Errno ESRCH, EINVAL."""
    who = i32(arg)
    if who == -(2**31):
        raise Errno("EINVAL")
    if who and not _known(k, abs(who)):
        raise Errno("ESRCH")
    file.owner = Owner(F_OWNER_PGRP if who < 0 else F_OWNER_PID, abs(who)) if who else None
    return 0


def get_id(k: Kernel, file: OpenFile) -> int:
    if file.owner is None or not file.owner.targets(k):
        return 0
    return -file.owner.id if file.owner.kind == F_OWNER_PGRP else file.owner.id


def set_owner(k: Kernel, t: Task, fd: int, arg: int) -> int:
    return set_id(k, t.files.get(fd), arg)


def get_owner(k: Kernel, t: Task, fd: int, arg: int) -> int:
    return get_id(k, t.files.get(fd))


def set_owner_ex(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """F_SETOWN_EX. Errno EFAULT, EINVAL, ESRCH."""
    file = t.files.get(fd)
    kind, id = _OWNER_EX.unpack(usermem.get(k, t, arg, _OWNER_EX.size))
    if kind not in (F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP):
        raise Errno("EINVAL")
    if id and not _known(k, id):
        raise Errno("ESRCH")
    file.owner = Owner(kind, id) if id else None
    return 0


def get_owner_ex(k: Kernel, t: Task, fd: int, arg: int) -> int:
    owner = t.files.get(fd).owner or Owner(F_OWNER_TID, 0)
    alive = owner.id if owner.targets(k) else 0
    usermem.put(k, t, arg, _OWNER_EX.pack(owner.kind, alive))
    return 0


def get_owner_uids(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """F_GETOWNER_UIDS: who set the owner."""
    ids = (UID, UID) if t.files.get(fd).owner else (0, 0)
    usermem.put(k, t, arg, struct.pack("<2I", *ids))
    return 0


def set_signal(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """F_SETSIG; 0: SIGIO, without siginfo."""
    if arg > NSIG:
        raise Errno("EINVAL")
    t.files.get(fd).signal = arg
    return 0


def get_signal(k: Kernel, t: Task, fd: int, arg: int) -> int:
    return t.files.get(fd).signal
