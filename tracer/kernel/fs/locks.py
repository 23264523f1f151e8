"""Advisory file locks: flock(2), and fcntl's byte ranges (fs/locks.c).

The owner of an F_SETLK range is a table of descriptors. The range is released when any descriptor
of the file is closed in that table. The owner of every other lock is the open file description.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN
from shstk.tracer.kernel.call import RESTART, Args, Call, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.files import Files, OpenFile
    from shstk.tracer.kernel.fs.inode import Inode
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_LOCK_MAND: Final = 32
_OFFSET_MAX: Final = 2**63 - 1
_FLOCK: Final = struct.Struct("<hh4xqqi4x")  # struct flock: l_type, l_whence, l_start, l_len, l_pid


@dataclass(frozen=True)
class Lock:
    """Bytes start to end, inclusive. whole: a flock(2) lock; those don't conflict with fcntl's.
    pid: whose it is; -1: an open file description's."""

    owner: Files | OpenFile
    exclusive: bool
    start: int = 0
    end: int = _OFFSET_MAX
    pid: int = -1
    whole: bool = False

    def conflicts(self, other: Lock) -> bool:
        return (
            self.whole == other.whole
            and self.owner is not other.owner
            and (self.exclusive or other.exclusive)
            and self.start <= other.end
            and other.start <= self.end
        )

    def mine(self, other: Lock) -> bool:
        return self.whole == other.whole and self.owner is other.owner

    def without(self, start: int, end: int) -> list[Lock]:
        """The parts of this lock outside start to end."""
        left = []
        if self.start < start:
            left.append(replace(self, end=min(self.end, start - 1)))
        if self.end > end:
            left.append(replace(self, start=max(self.start, end + 1)))
        return left


class BlockedOwners:
    """The owner that each blocked owner waits for (blocked_hash of fs/locks.c)."""

    def __init__(self) -> None:
        self.by_owner: dict[Files | OpenFile, Files | OpenFile] = {}


_BLOCKED: Final = Slot(BlockedOwners)


def _key(inode: Inode) -> tuple[str, int, int]:
    return ("lock", inode.dev, inode.ino)


def release(k: Kernel, inode: Inode, owner: Files | OpenFile) -> None:
    """Release the owner's locks: it has closed the file."""
    if any(lock.owner is owner for lock in inode.locks):
        inode.locks = [lock for lock in inode.locks if lock.owner is not owner]
        k.wake_key(_key(inode))


def _drop(k: Kernel, inode: Inode, wanted: Lock) -> None:
    """Release the range of `wanted` from its owner's locks."""
    before, inode.locks = inode.locks, []
    for lock in before:
        inode.locks += lock.without(wanted.start, wanted.end) if lock.mine(wanted) else [lock]
    k.wake_key(_key(inode))


def _take(k: Kernel, inode: Inode, wanted: Lock) -> None:
    """Replace its owner's locks in the range, and merge adjacent ones of the same kind, which
    F_GETLK shows as one."""
    _drop(k, inode, wanted)
    for lock in list(inode.locks):
        touches = lock.start <= wanted.end + 1 and wanted.start <= lock.end + 1
        if lock.mine(wanted) and lock.exclusive == wanted.exclusive and touches:
            inode.locks.remove(lock)
            start, end = min(lock.start, wanted.start), max(lock.end, wanted.end)
            wanted = replace(wanted, start=start, end=end)
    inode.locks.append(wanted)


def _conflicting(inode: Inode, wanted: Lock) -> Lock | None:
    return min(
        (lock for lock in inode.locks if lock.conflicts(wanted)),
        key=lambda lock: lock.start,
        default=None,
    )


def _acquire(k: Kernel, t: Task, inode: Inode, wanted: Lock, may_wait: bool) -> Outcome:
    """Errno EAGAIN; EDEADLK: the conflicting owner waits, directly or not, for this one."""
    blocked = _BLOCKED.of(k).by_owner
    blocked.pop(t.files, None)
    conflict = _conflicting(inode, wanted)
    if conflict is None:
        _take(k, inode, wanted)
        return 0
    if not may_wait:
        raise Errno("EAGAIN")
    if t.blocked is not None and t.blocked.woken == "signal":
        return RESTART
    if wanted.owner is t.files:
        other: Files | OpenFile | None = conflict.owner
        while other is not None and other is not t.files:
            other = blocked.get(other)
        if other is t.files:
            raise Errno("EDEADLK")
        blocked[t.files] = conflict.owner
    return Wait("lock", _key(inode))


def sys_flock(k: Kernel, t: Task, a: Args) -> Outcome:
    """flock: the operation is checked before the descriptor."""
    operation = a[1] & 0xFFFF_FFFF
    if operation & _LOCK_MAND:
        return 0  # no longer supported, and ignored
    kind = operation & ~LOCK_NB
    if kind not in (LOCK_SH, LOCK_EX, LOCK_UN):
        raise Errno("EINVAL")
    file = t.files.get(a[0])
    wanted = Lock(file, kind == LOCK_EX, pid=t.pid, whole=True)
    if kind == LOCK_UN:
        _drop(k, file.inode, wanted)
        return 0
    _drop_other_kind(k, file.inode, wanted)
    return _acquire(k, t, file.inode, wanted, not operation & LOCK_NB)


def _drop_other_kind(k: Kernel, inode: Inode, wanted: Lock) -> None:
    """A conversion between shared and exclusive drops the old lock before it waits."""
    if any(lock.mine(wanted) and lock.exclusive != wanted.exclusive for lock in inode.locks):
        _drop(k, inode, wanted)


def _get_flock(
    k: Kernel, t: Task, file: OpenFile, addr: int, ofd: bool, asks: bool = False
) -> tuple[int, Lock]:
    """(l_type, the lock that a struct flock describes): flock64_to_posix_lock(), in its order.

    Errno EINVAL, EOVERFLOW; EBADF for the access mode."""
    kind, whence, start, length, pid = _FLOCK.unpack(usermem.get(k, t, addr, _FLOCK.size))
    bases = {0: 0, 1: file.pos, 2: file.inode.size}
    if asks and kind not in (F_RDLCK, F_WRLCK):
        raise Errno("EINVAL")
    if whence not in bases:
        raise Errno("EINVAL")
    start += bases[whence]
    if start > _OFFSET_MAX:
        raise Errno("EOVERFLOW")
    if start < 0 or start + min(length, 0) < 0:
        raise Errno("EINVAL")
    end = start + length - 1 if length > 0 else _OFFSET_MAX
    if end > _OFFSET_MAX:
        raise Errno("EOVERFLOW")
    if length < 0:
        start, end = start + length, start - 1
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise Errno("EINVAL")
    if not asks and (
        (kind == F_RDLCK and not file.readable) or (kind == F_WRLCK and not file.writable)
    ):
        raise Errno("EBADF")
    if ofd and pid:
        raise Errno("EINVAL")
    owner = file if ofd else t.files
    return kind, Lock(owner, kind == F_WRLCK, start, end, -1 if ofd else t.pid)


def set_lock(
    k: Kernel, t: Task, fd: int, addr: int, may_wait: bool = False, ofd: bool = False
) -> Outcome:
    """fcntl's F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW."""
    file = t.files.get(fd)
    kind, wanted = _get_flock(k, t, file, addr, ofd)
    if kind == F_UNLCK:
        _drop(k, file.inode, wanted)
        return 0
    return _acquire(k, t, file.inode, wanted, may_wait)


def get_lock(k: Kernel, t: Task, fd: int, addr: int, ofd: bool = False) -> int:
    """fcntl's F_GETLK and F_OFD_GETLK: the first conflicting lock, or l_type F_UNLCK."""
    file = t.files.get(fd)
    kind, wanted = _get_flock(k, t, file, addr, ofd, asks=True)
    lock = _conflicting(file.inode, wanted)
    if lock is None:
        usermem.put(k, t, addr, F_UNLCK.to_bytes(2, "little"))
        return 0
    length = 0 if lock.end == _OFFSET_MAX else lock.end - lock.start + 1
    kind = F_WRLCK if lock.exclusive else F_RDLCK
    usermem.put(k, t, addr, _FLOCK.pack(kind, 0, lock.start, length, lock.pid))
    return 0


def describe(file: OpenFile, table: Files) -> str:
    """show_fd_locks(): those that a descriptor of `table` holds, for /proc/PID/fdinfo."""
    inode = file.inode
    lines: list[str] = []
    for lock in inode.locks:
        if lock.owner is not file and lock.owner is not table:
            continue
        kind = "FLOCK " if lock.whole else "OFDLCK" if lock.pid == -1 else "POSIX "
        mode, end = "WRITE" if lock.exclusive else "READ", lock.end
        place = f"{lock.pid} {inode.dev >> 8:02x}:{inode.dev & 0xFF:02x}:{inode.ino}"
        span = f"{lock.start} {'EOF' if end == _OFFSET_MAX else end}"
        lines.append(f"lock:\t{len(lines) + 1}: {kind} ADVISORY  {mode} {place} {span}\n")
    return "".join(lines)


CALLS: Final = (Call("flock", sys_flock),)
