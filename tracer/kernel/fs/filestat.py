"""The attributes of an inode: stat and its variants, access, mode, owner, times, xattrs."""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_NO_AUTOMOUNT,
    AT_SYMLINK_NOFOLLOW,
    IN_ATTRIB,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify, seals
from shstk.tracer.kernel.fs.inode import DEV_PROC, NAME_MAX, Inode, Regular, Symlink
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.task import UID
from shstk.tracer.kernel.time.clock import SECOND, realtime_ns
from shstk.tracer.kernel.tree.hosttree import raw
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find, find_at, get_path

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

BLOCK: Final = 4096
_AT_STATX_SYNC: Final = 0x6000
_STAT_FLAGS: Final = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT
_STATX_BASIC: Final = 0x7FF
_STATX_RESERVED: Final = 0x80000000
_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
_UNCHANGED: Final = 0xFFFF_FFFF  # chown's -1


def _blocks(inode: Inode) -> int:
    """st_blocks: 512-byte units, rounded up to whole blocks."""
    return -(-inode.size // BLOCK) * (BLOCK // 512)


def pack_stat(inode: Inode) -> bytes:
    """struct stat of asm-generic (128 bytes)."""
    head = (inode.dev, inode.ino, inode.mode, inode.nlink, inode.uid, inode.uid)
    times = [v for ns in (inode.atime, inode.mtime, inode.ctime) for v in divmod(ns, SECOND)]
    return struct.pack(
        "<QQIIIIQ8xQi4xQ6Q8x", *head, inode.rdev, inode.size, BLOCK, _blocks(inode), *times
    )


def pack_statx(inode: Inode) -> bytes:
    """struct statx (256 bytes), without a birth time."""
    head = struct.pack(
        "<IIQIIIH2xQQQQ",
        *(_STATX_BASIC, BLOCK, 0, inode.nlink, inode.uid, inode.uid, inode.mode, inode.ino),
        inode.size,
        *(_blocks(inode), 0),
    )
    times = b"".join(
        struct.pack("<qI4x", *divmod(ns, SECOND))
        for ns in (inode.atime, 0, inode.ctime, inode.mtime)
    )
    numbers = (inode.rdev >> 8, inode.rdev & 0xFF, inode.dev >> 8, inode.dev & 0xFF)
    return (head + times + struct.pack("<4I", *numbers)).ljust(256, b"\0")


def sys_newfstatat(k: Kernel, t: Task, a: Args) -> int:
    flags = a[3] & 0xFFFF_FFFF
    if flags & ~_STAT_FLAGS:
        raise Errno("EINVAL")
    inode = find_at(k, t, a[0], a[1], flags)
    inode.see(k)
    usermem.put(k, t, a[2], pack_stat(inode))
    return 0


def sys_fstat(k: Kernel, t: Task, a: Args) -> int:
    inode = t.files.get(a[0], path_only=True).inode
    inode.see(k)
    usermem.put(k, t, a[1], pack_stat(inode))
    return 0


def sys_statx(k: Kernel, t: Task, a: Args) -> int:
    flags, mask = a[2] & 0xFFFF_FFFF, a[3] & 0xFFFF_FFFF
    if flags & ~(_STAT_FLAGS | _AT_STATX_SYNC) or mask & _STATX_RESERVED:
        raise Errno("EINVAL")
    if flags & _AT_STATX_SYNC == _AT_STATX_SYNC:
        raise Errno("EINVAL")
    inode = find_at(k, t, a[0], a[1], flags)
    inode.see(k)
    usermem.put(k, t, a[4], pack_statx(inode))
    return 0


def sys_faccessat(k: Kernel, t: Task, a: Args) -> int:
    return _access(k, t, a, flags=0)


def sys_faccessat2(k: Kernel, t: Task, a: Args) -> int:
    flags = a[3] & 0xFFFF_FFFF
    if flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno("EINVAL")
    return _access(k, t, a, flags)


def _access(k: Kernel, t: Task, a: Args, flags: int) -> int:
    want = a[2] & 0xFFFF_FFFF
    if want & ~7:
        raise Errno("EINVAL")
    inode = find_at(k, t, a[0], a[1], flags)
    inode.see(k)
    inode.permit(want)
    return 0


def sys_readlinkat(k: Kernel, t: Task, a: Args) -> int:
    size = a[3] & 0xFFFF_FFFF
    if not 0 < size < 1 << 31:
        raise Errno("EINVAL")
    inode = find_at(k, t, a[0], a[1], AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    if not isinstance(inode, Symlink):
        raise Errno("ENOENT" if a[1] and not get_path(k, t, a[1]) else "EINVAL")
    inode.see(k)
    target = raw(inode.read())[:size]
    usermem.put(k, t, a[2], target)
    return len(target)


def _put_statfs(k: Kernel, t: Task, inode: Inode, addr: int) -> int:
    """struct statfs: procfs, or a tmpfs with the size that the guest may store."""
    proc = inode.dev == DEV_PROC
    total = 0 if proc else k.sandbox.storage // BLOCK
    free = 0 if proc else (k.sandbox.storage - k.sandbox.stored) // BLOCK
    magic = 0x9FA0 if proc else 0x01021994
    fields = (magic, BLOCK, total, free, free, total, free, inode.dev, NAME_MAX, BLOCK, 0)
    usermem.put(k, t, addr, struct.pack("<11Q32x", *fields))
    return 0


def sys_statfs(k: Kernel, t: Task, a: Args) -> int:
    return _put_statfs(k, t, find_at(k, t, AT_FDCWD, a[0], 0), a[1])


def sys_fstatfs(k: Kernel, t: Task, a: Args) -> int:
    return _put_statfs(k, t, t.files.get(a[0], path_only=True).inode, a[1])


def _own(inode: Inode) -> Inode:
    if inode.dev == DEV_PROC or inode.uid != UID:
        raise Errno("EPERM")
    if inode.read_only:
        raise Errno("EROFS")
    return inode


def _changed(k: Kernel, inode: Inode) -> None:
    inode.changed(realtime_ns(k))
    fsnotify.notify(k, inode, IN_ATTRIB)


def _chmod(k: Kernel, inode: Inode, mode: int) -> int:
    _own(inode).see(k)
    if isinstance(inode, Regular):
        seals.check_mode(inode, mode)
    inode.mode = stat.S_IFMT(inode.mode) | mode & 0o7777
    _changed(k, inode)
    return 0


def sys_fchmod(k: Kernel, t: Task, a: Args) -> int:
    return _chmod(k, t.files.get(a[0]).inode, a[1])


def sys_fchmodat(k: Kernel, t: Task, a: Args) -> int:
    return _chmod(k, find_at(k, t, a[0], a[1], 0), a[2])


def sys_fchmodat2(k: Kernel, t: Task, a: Args) -> int:
    flags = a[3] & 0xFFFF_FFFF
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno("EINVAL")
    inode = find_at(k, t, a[0], a[1], flags)
    if isinstance(inode, Symlink):
        raise Errno("EOPNOTSUPP")
    return _chmod(k, inode, a[2])


def _chown(k: Kernel, inode: Inode, uid: int, gid: int) -> int:
    """An ordinary user cannot give a file away. As on Linux, the set-id bits are cleared."""
    _own(inode).see(k)
    if uid & 0xFFFF_FFFF not in (UID, _UNCHANGED) or gid & 0xFFFF_FFFF not in (UID, _UNCHANGED):
        raise Errno("EPERM")
    if stat.S_ISREG(inode.mode):
        inode.mode &= ~stat.S_ISUID
        if inode.mode & stat.S_IXGRP:
            inode.mode &= ~stat.S_ISGID
    _changed(k, inode)
    return 0


def sys_fchown(k: Kernel, t: Task, a: Args) -> int:
    return _chown(k, t.files.get(a[0]).inode, a[1], a[2])


def sys_fchownat(k: Kernel, t: Task, a: Args) -> int:
    flags = a[4] & 0xFFFF_FFFF
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno("EINVAL")
    return _chown(k, find_at(k, t, a[0], a[1], flags), a[2], a[3])


def _new_time(old: int, sec: int, nsec: int, now: int) -> int:
    if nsec == _UTIME_NOW:
        return now
    if nsec == _UTIME_OMIT:
        return old
    if nsec >= SECOND:
        raise Errno("EINVAL")
    return sec * SECOND + nsec


def sys_utimensat(k: Kernel, t: Task, a: Args) -> int:
    """do_utimes(). A null path refers to the descriptor itself (futimens)."""
    flags = a[3] & 0xFFFF_FFFF
    now = realtime_ns(k)
    times = (0, _UTIME_NOW, 0, _UTIME_NOW)
    if a[2]:
        times = struct.unpack("<qQqQ", usermem.get(k, t, a[2], 32))
        if times[1] == times[3] == _UTIME_OMIT:
            return 0  # not even the path is looked at
    of_descriptor = not a[1] and a[0] & 0xFFFF_FFFF != AT_FDCWD
    if flags & ~(0 if of_descriptor else AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise Errno("EINVAL")
    inode = t.files.get(a[0]).inode if of_descriptor else find_at(k, t, a[0], a[1], flags)
    _own(inode).see(k)
    atime = _new_time(inode.atime, times[0], times[1], now)
    mtime = _new_time(inode.mtime, times[2], times[3], now)
    _changed(k, inode)
    inode.atime, inode.mtime = atime, mtime
    return 0


def _no_attributes(k: Kernel, t: Task, a: Args) -> int:
    """listxattr and llistxattr: the path must exist, and the list is empty."""
    find(k, t, AT_FDCWD, get_path(k, t, a[0])).existing()
    return 0


def _fd_no_attributes(k: Kernel, t: Task, a: Args) -> int:
    t.files.get(a[0])
    return 0


def _refuse_attributes(k: Kernel, t: Task, a: Args) -> int:
    raise Errno("EOPNOTSUPP")


_XATTR: Final = "no file has extended attributes"

CALLS: Final = (
    *(
        Call(name, _refuse_attributes, "refused", _XATTR)
        for op in ("setxattr", "getxattr", "removexattr")
        for name in (op, f"l{op}", f"f{op}")
    ),
    Call("listxattr", _no_attributes, "simple", _XATTR),
    Call("llistxattr", _no_attributes, "simple", _XATTR),
    Call("flistxattr", _fd_no_attributes, "simple", _XATTR),
    Call("statfs", sys_statfs, why="one size: what the guest may store"),
    Call("fstatfs", sys_fstatfs, why="one size: what the guest may store"),
    Call("faccessat", sys_faccessat),
    Call("fchmod", sys_fchmod),
    Call("fchmodat", sys_fchmodat),
    Call("fchownat", sys_fchownat),
    Call("fchown", sys_fchown),
    Call("readlinkat", sys_readlinkat),
    Call("newfstatat", sys_newfstatat),
    Call("fstat", sys_fstat),
    Call("utimensat", sys_utimensat),
    Call("statx", sys_statx),
    Call("faccessat2", sys_faccessat2),
    Call("fchmodat2", sys_fchmodat2),
)
