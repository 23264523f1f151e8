"""Leases: F_SETLEASE's holder is told before another open of the file succeeds (fs/locks.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    F_OWNER_PID,
    F_RDLCK,
    F_UNLCK,
    F_WRLCK,
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
)
from shstk.tracer.kernel.call import RESTART, End, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import sigio
from shstk.tracer.kernel.fs.inode import Directory, Regular
from shstk.tracer.kernel.fs.sigio import Owner
from shstk.tracer.kernel.time.clock import SECOND

if TYPE_CHECKING:
    from collections.abc import Hashable

    from shstk.tracer.kernel.fs.files import OpenFile
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

BREAK_TIME: Final = 45  # seconds: fs.lease-break-time


@dataclass(eq=False)
class Lease:
    """kind: F_RDLCK or F_WRLCK. target: what it has to become by `due`, while it is being
    broken."""

    file: OpenFile
    fd: int
    kind: int
    target: int | None = None
    due: int = 0  # now_ns


def _key(inode: Regular) -> Hashable:
    return ("lease", inode.dev, inode.ino)


def _modify(k: Kernel, inode: Regular, lease: Lease, kind: int) -> None:
    """lease_modify()."""
    lease.kind, lease.target = kind, None
    if kind == F_UNLCK:
        inode.leases.remove(lease)
        lease.file.owner, lease.file.signal = None, 0
    k.wake_key(_key(inode))


def _expire(k: Kernel, inode: Regular) -> None:
    """time_out_leases()."""
    for lease in list(inode.leases):
        if lease.target is not None and k.now_ns() >= lease.due:
            _modify(k, inode, lease, lease.target)


def broken(k: Kernel, t: Task, inode: Regular, flags: int) -> Wait | End | None:
    """__break_lease(): tell the holders of leases that an open with these flags conflicts with.

    None if there are none. Otherwise the open waits. Errno EAGAIN for O_NONBLOCK.
    """
    _expire(k, inode)
    writes = flags & O_ACCMODE != O_RDONLY
    conflicting = [lease for lease in inode.leases if writes or lease.kind == F_WRLCK]
    if not conflicting:
        return None
    for lease in conflicting:
        target = F_UNLCK if writes else F_RDLCK
        if lease.target is None or (writes and lease.target != F_UNLCK):
            lease.target, lease.due = target, k.now_ns() + BREAK_TIME * SECOND
            sigio.send(k, lease.file, lease.fd, sigio.POLL_MSG)
    if flags & O_NONBLOCK:
        raise Errno("EAGAIN")
    if t.blocked is not None and t.blocked.woken == "signal":
        return RESTART
    return Wait("lease", _key(inode), min(lease.due for lease in conflicting))


def set_lease(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """fcntl_setlease(). Errno EINVAL, EAGAIN: the file is open in a way that conflicts."""
    file, kind = t.files.get(fd), arg & 0xFFFF_FFFF
    inode = file.inode
    if isinstance(inode, Directory) or kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise Errno("EINVAL")
    if not isinstance(inode, Regular):
        raise Errno("EINVAL")
    _expire(k, inode)
    mine = next((lease for lease in inode.leases if lease.file is file), None)
    if kind == F_UNLCK:
        if mine is None:
            raise Errno("EAGAIN")
        _modify(k, inode, mine, F_UNLCK)
        return 0
    _check_opens(file, inode, kind)
    for lease in inode.leases:
        if lease is not mine and (kind == F_WRLCK or lease.target == F_UNLCK):
            raise Errno("EAGAIN")
    if mine is not None:
        _modify(k, inode, mine, kind)
        return 0
    inode.leases.append(Lease(file, fd, kind))
    if file.owner is None:
        file.owner = Owner(F_OWNER_PID, t.pid)
    return 0


def _check_opens(file: OpenFile, inode: Regular, kind: int) -> None:
    """check_conflicting_open()."""
    if kind == F_RDLCK:
        if inode.writers:
            raise Errno("EAGAIN")
    elif inode.writers != int(file.writable) or inode.readers != int(not file.writable):
        raise Errno("EAGAIN")


def get_lease(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """target_leasetype(): what it is, or has to become."""
    file = t.files.get(fd)
    if not isinstance(file.inode, Regular):
        return F_UNLCK
    _expire(k, file.inode)
    for lease in file.inode.leases:
        if lease.file is file:
            return lease.kind if lease.target is None else lease.target
    return F_UNLCK


def closed(k: Kernel, file: OpenFile) -> None:
    """locks_remove_lease()."""
    if isinstance(file.inode, Regular):
        for lease in list(file.inode.leases):
            if lease.file is file:
                _modify(k, file.inode, lease, F_UNLCK)
