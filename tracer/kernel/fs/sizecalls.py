"""Calls about the size of a file and its pages: truncate, fallocate, sync, advice."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import IN_MODIFY, O_WRONLY, POSIX_FADV_NOREUSE
from shstk.tracer.kernel.call import Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify, leases, seals
from shstk.tracer.kernel.fs.inode import WRITE, Directory, Inode, Regular, clean
from shstk.tracer.kernel.fs.regular import FILE_MAX, check_size, punch_hole, resize
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find_at

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # FALLOC_FL_*
# The modes that some file system has: allocate, collapse, zero, insert, unshare, write zeroes.
_MODES: Final = (0, 8, 0x10, 0x20, 0x40, 0x80)
_WITHOUT_KEEP_SIZE: Final = (8, 0x20, 0x80)
_SYNC_RANGE: Final = 7  # SYNC_FILE_RANGE_*


def _resize(k: Kernel, t: Task, inode: Regular, size: int) -> None:
    check_size(k, t, size)
    resize(k, inode, size)
    fsnotify.notify(k, inode, IN_MODIFY)


def sys_truncate(k: Kernel, t: Task, a: Args) -> Outcome:
    """do_sys_truncate(), vfs_truncate()."""
    if a[1] > FILE_MAX:
        raise Errno("EINVAL")
    inode = find_at(k, t, AT_FDCWD, a[0], 0)
    if isinstance(inode, Directory):
        raise Errno("EISDIR")
    if not isinstance(inode, Regular):
        raise Errno("EINVAL")
    inode.permit(WRITE)
    inode.permit_write(k)
    if (outcome := leases.broken(k, t, inode, O_WRONLY)) is not None:
        return outcome
    _resize(k, t, inode, a[1])
    return 0


def sys_ftruncate(k: Kernel, t: Task, a: Args) -> int:
    if a[1] > FILE_MAX:
        raise Errno("EINVAL")
    file = t.files.get(a[0])
    if not file.writable or not isinstance(file.inode, Regular):
        raise Errno("EINVAL")
    _resize(k, t, file.inode, a[1])
    return 0


def sys_fallocate(k: Kernel, t: Task, a: Args) -> int:
    """vfs_fallocate(), shmem_fallocate(). With KEEP_SIZE an allocation has no effect: memory is
    allocated on write."""
    file, mode, offset, length = t.files.get(a[0]), a[1] & 0xFFFF_FFFF, a[2], a[3]
    if offset > FILE_MAX or not 0 < length <= FILE_MAX:
        raise Errno("EINVAL")
    _check_mode(mode)
    if not file.writable:
        raise Errno("EBADF")
    inode = _allocatable(file.inode)
    end = offset + length
    if end > FILE_MAX:
        raise Errno("EFBIG")
    if mode & ~(_KEEP_SIZE | _PUNCH_HOLE):
        raise Errno("EOPNOTSUPP")
    if mode & _PUNCH_HOLE:
        punch_hole(k, inode, offset, length)
        return 0
    check_size(k, t, end)
    seals.check_size(inode, max(end, inode.size))
    if not mode and end > inode.size:
        resize(k, inode, end)
    return 0


def _check_mode(mode: int) -> None:
    """The modes exclude each other; some need FALLOC_FL_KEEP_SIZE, others refuse it."""
    kind, keeps = mode & ~_KEEP_SIZE, mode & _KEEP_SIZE
    known = kind in _MODES or kind == _PUNCH_HOLE
    if not known or (kind == _PUNCH_HOLE and not keeps) or (kind in _WITHOUT_KEEP_SIZE and keeps):
        raise Errno("EOPNOTSUPP")


def _allocatable(inode: Inode) -> Regular:
    if stat.S_ISFIFO(inode.mode):
        raise Errno("ESPIPE")
    if not isinstance(inode, Regular):
        raise Errno("ENODEV")
    return inode


# All files are in memory, so there is nothing to write back or to read ahead.


def sys_sync(k: Kernel, t: Task, a: Args) -> int:
    return 0


def sys_syncfs(k: Kernel, t: Task, a: Args) -> int:
    t.files.get(a[0])
    return 0


def sys_fsync(k: Kernel, t: Task, a: Args) -> int:
    """Devices, pipes, sockets and the files of /proc have no f_op->fsync."""
    inode = t.files.get(a[0]).inode
    if not isinstance(inode, Regular | Directory):
        raise Errno("EINVAL")
    clean(inode)
    return 0


def sys_sync_file_range(k: Kernel, t: Task, a: Args) -> int:
    inode = t.files.get(a[0]).inode
    if a[3] & 0xFFFF_FFFF & ~_SYNC_RANGE or a[1] + a[2] > FILE_MAX:
        raise Errno("EINVAL")
    if not isinstance(inode, Regular | Directory):
        raise Errno("ESPIPE")
    return 0


def sys_readahead(k: Kernel, t: Task, a: Args) -> int:
    file = t.files.get(a[0])
    if not file.readable:
        raise Errno("EBADF")
    if not isinstance(file.inode, Regular) or a[2] > FILE_MAX:
        raise Errno("EINVAL")
    return 0


def sys_fadvise64(k: Kernel, t: Task, a: Args) -> int:
    """generic_fadvise()."""
    if stat.S_ISFIFO(t.files.get(a[0]).inode.mode):
        raise Errno("ESPIPE")
    if a[2] > FILE_MAX or a[3] & 0xFFFF_FFFF > POSIX_FADV_NOREUSE:
        raise Errno("EINVAL")
    return 0


_MEMORY: Final = "files are in memory: nothing to do"

CALLS: Final = (
    Call("truncate", sys_truncate),
    Call("ftruncate", sys_ftruncate),
    Call("fallocate", sys_fallocate, why="allocate and punch holes, as tmpfs does"),
    Call("sync", sys_sync, "simple", _MEMORY),
    Call("fsync", sys_fsync, "simple", _MEMORY),
    Call("fdatasync", sys_fsync, "simple", _MEMORY),
    Call("sync_file_range", sys_sync_file_range, "simple", _MEMORY),
    Call("syncfs", sys_syncfs, "simple", _MEMORY),
    Call("readahead", sys_readahead, "simple", _MEMORY),
    Call("fadvise64", sys_fadvise64, "simple", _MEMORY),
)
