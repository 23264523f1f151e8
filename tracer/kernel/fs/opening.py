"""Opening a path: openat, memfd_create, and the class that opens each kind of inode."""

from __future__ import annotations

import stat
import struct
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    F_SEAL_EXEC,
    IN_CREATE,
    IN_MODIFY,
    IN_OPEN,
    O_ACCMODE,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
    PAGE,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
    constants,
)
from shstk.tracer.kernel.call import Args, Call, End, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify, leases
from shstk.tracer.kernel.fs.devices import open_device
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.inode import (
    DEV_SHMEM,
    EXECUTE,
    READ,
    WRITE,
    Device,
    Directory,
    Inode,
    Regular,
    Symlink,
)
from shstk.tracer.kernel.fs.pipes import Fifo, open_fifo
from shstk.tracer.kernel.fs.regular import DirectoryFile, RegularFile, resize
from shstk.tracer.kernel.fs.stdio import Stream, open_stream
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.proc.procfiles import open_proc
from shstk.tracer.kernel.proc.procfs import ProcFile
from shstk.tracer.kernel.time.clock import realtime_ns
from shstk.tracer.kernel.tree.hosttree import text
from shstk.tracer.kernel.tree.sandbox import Found, find, get_path
from shstk.tracer.kernel.tty import pty
from shstk.tracer.kernel.tty.terminal import TTY, TerminalFile, TerminalNode, controlling

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_O_SYNC: Final = 0o4010000  # O_DSYNC and __O_SYNC
_CREATION: Final = O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC | O_NOFOLLOW  # not in f_flags
_MEMFD_NAME: Final = 250  # bytes, with the NUL
_WITH_PATH: Final = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
_KNOWN: Final = reduce(or_, constants("O_").values(), _O_SYNC)
_OPEN_HOW: Final = struct.Struct("<3Q")
_RESOLVE: Final = sum(constants("RESOLVE_").values())
_SCOPED: Final = RESOLVE_BENEATH | RESOLVE_IN_ROOT
_NEEDS: Final = {O_RDONLY: READ, O_WRONLY: WRITE, O_RDWR: READ | WRITE}


def open_inode(k: Kernel, t: Task, inode: Inode, flags: int, path: str) -> OpenFile | Wait | End:
    """A new description of an existing inode. flags: access mode and status flags."""
    if flags & O_PATH:
        return OpenFile(inode, flags, path)
    no_tty = flags & O_NOCTTY
    flags &= ~O_NOCTTY
    inode.see(k)
    inode.permit(_NEEDS.get(flags & O_ACCMODE, READ | WRITE))
    match inode:
        case Regular():
            if flags & O_ACCMODE != O_RDONLY:
                inode.permit_write(k)
            waits = leases.broken(k, t, inode, flags)
            return RegularFile(inode, flags, path) if waits is None else waits
        case Directory():
            if flags & O_ACCMODE != O_RDONLY:
                raise Errno("EISDIR")
            return DirectoryFile(inode, flags, path)
        case TerminalNode():
            return TerminalFile(inode, flags)
        case pty.Slave():
            return pty.open_slave(k, t, inode, flags | no_tty)
        case Device() if inode.rdev == pty.PTMX:
            return pty.open_master(k, inode, flags)
        case Device() if inode.rdev == TTY:
            if (slave := pty.controlling(k, t.process)) is not None:
                return pty.open_slave(k, t, slave, flags | no_tty)
            return TerminalFile(controlling(k, t), flags)
        case Device():
            return open_device(inode, flags, path)
        case ProcFile():
            return open_proc(k, inode, flags, path)
        case Fifo():
            return open_fifo(k, t, inode, flags, path)
        case Stream():
            return open_stream(inode, flags, path)
    raise Errno("ENXIO")


def _create(k: Kernel, t: Task, found: Found, mode: int) -> Regular:
    if found.must_be_dir or found.name in ("", ".", ".."):
        raise Errno("EISDIR")
    now = realtime_ns(k)
    bits = mode & 0o7777 & ~t.fs.umask
    inode = Regular(k.sandbox.new_ino(), stat.S_IFREG | bits, atime=now, mtime=now, ctime=now)
    found.parent.link(found.name, inode, now)
    return inode


def _path(found: Found, inode: Inode, asked: str) -> str:
    """The name that /proc/self/fd shows."""
    if isinstance(inode, Directory):
        return inode.path()
    if found.parent.entries.get(found.name) is inode:
        return found.parent.child_path(found.name)
    return asked


def _nameless(k: Kernel, t: Task, found: Found, flags: int, mode: int) -> RegularFile:
    """vfs_tmpfile(): a file in a directory, which linkat may give a name."""
    directory = found.existing()
    if not isinstance(directory, Directory):
        raise Errno("ENOTDIR")
    directory.permit(WRITE | EXECUTE)
    bits, now = stat.S_IFREG | mode & 0o7777 & ~t.fs.umask, realtime_ns(k)
    ino = k.sandbox.new_ino()
    inode = Regular(ino, bits, nlink=0, atime=now, mtime=now, ctime=now, dev=directory.dev)
    inode.linkable = not flags & O_EXCL
    path = directory.child_path(f"#{ino} (deleted)")
    file = RegularFile(inode, flags & ~_CREATION | O_LARGEFILE, path)
    fsnotify.notify(k, inode, IN_OPEN)
    return file


def _check_flags(flags: int) -> None:
    """build_open_flags(), before the path is read: O_CREAT makes no directory; O_TMPFILE needs
    O_DIRECTORY and write access."""
    if flags & O_PATH:
        return
    nameless = flags & O_TMPFILE & ~O_DIRECTORY
    if flags & O_CREAT and (flags & O_DIRECTORY or nameless):
        raise Errno("EINVAL")
    if nameless and (not flags & O_DIRECTORY or flags & O_ACCMODE == O_RDONLY):
        raise Errno("EINVAL")


def open_at(
    k: Kernel, t: Task, dirfd: int, path: str, flags: int, mode: int, resolve: int = 0
) -> OpenFile | Wait | End:
    """openat(2) without the descriptor. The open of a named pipe, or of a file with a lease, may
    have to wait."""
    if flags & O_PATH:
        flags &= _WITH_PATH
    if flags & O_TMPFILE & ~O_DIRECTORY:
        return _nameless(k, t, find(k, t, dirfd, path, resolve=resolve), flags, mode)
    follow = not (flags & O_NOFOLLOW or flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL)
    found = find(k, t, dirfd, path, follow, resolve)
    inode = found.inode
    kept = flags & ~_CREATION | O_LARGEFILE
    if inode is None:
        if not flags & O_CREAT:
            raise Errno("ENOENT")
        created = _create(k, t, found, mode)
        fsnotify.notify(k, created, IN_CREATE)
        fsnotify.notify(k, created, IN_OPEN)
        new = RegularFile(created, kept, _path(found, created, path))
        new.created = True
        return new
    if flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL:
        raise Errno("EEXIST")
    if isinstance(inode, Symlink) and not flags & O_PATH:
        raise Errno("ELOOP")
    if flags & O_DIRECTORY and not isinstance(inode, Directory):
        raise Errno("ENOTDIR")
    if isinstance(inode, Directory) and flags & O_CREAT:
        raise Errno("EISDIR")
    if flags & O_TRUNC and isinstance(inode, Regular) and not flags & O_PATH:
        inode.permit(WRITE)
        inode.permit_write(k)
    file = open_inode(k, t, inode, kept, _path(found, inode, path))
    if isinstance(file, Wait | End) or flags & O_PATH:
        return file
    if flags & O_TRUNC and isinstance(inode, Regular):
        resize(k, inode, 0)
        fsnotify.notify(k, inode, IN_MODIFY)
    fsnotify.notify(k, inode, IN_OPEN)
    return file


def _open(
    k: Kernel, t: Task, dirfd: int, path_addr: int, flags: int, mode: int, resolve: int = 0
) -> Outcome:
    _check_flags(flags)
    path = get_path(k, t, path_addr)
    t.files.unused(t)  # do_sys_openat2() takes a descriptor before it walks the path
    file = open_at(k, t, dirfd, path, flags, mode, resolve)
    return file if isinstance(file, Wait | End) else t.files.add(t, file, bool(flags & O_CLOEXEC))


def sys_openat(k: Kernel, t: Task, a: Args) -> Outcome:
    return _open(k, t, a[0], a[1], a[2] & 0xFFFF_FFFF, a[3] & 0xFFFF_FFFF)


def sys_openat2(k: Kernel, t: Task, a: Args) -> Outcome:
    """struct open_how: flags, mode, resolve. Unlike openat, it refuses what it does not know."""
    if a[3] < _OPEN_HOW.size:
        raise Errno("EINVAL")
    if a[3] > PAGE:
        raise Errno("E2BIG")
    how = usermem.get(k, t, a[2], a[3])
    if any(how[_OPEN_HOW.size :]):
        raise Errno("E2BIG")
    flags, mode, resolve = _OPEN_HOW.unpack_from(how)
    creates = flags & (O_CREAT | O_TMPFILE & ~O_DIRECTORY)
    bad = (
        flags & ~_KNOWN
        or resolve & ~_RESOLVE
        or resolve & _SCOPED == _SCOPED
        or mode & ~(0o7777 if creates else 0)
        or (flags & O_PATH and flags & ~_WITH_PATH)
    )
    if bad:
        raise Errno("EINVAL")
    if resolve & RESOLVE_CACHED and (creates or flags & O_TRUNC):
        raise Errno("EAGAIN")
    return _open(k, t, a[0], a[1], flags, mode, resolve)


def sys_memfd_create(k: Kernel, t: Task, a: Args) -> int:
    flags = a[1] & 0xFFFF_FFFF
    cloexec, allow_sealing, noexec, executable = 1, 2, 8, 16  # MFD_*
    both = noexec | executable
    if flags & ~(cloexec | allow_sealing | both) or flags & both == both:
        raise Errno("EINVAL")
    name = text(usermem.get_cstr(k, t, a[0], _MEMFD_NAME, too_long="EINVAL"))
    now = realtime_ns(k)
    bits = 0o666 if flags & noexec else 0o777
    ino = k.sandbox.new_ino()
    inode = Regular(
        ino, stat.S_IFREG | bits, nlink=0, atime=now, mtime=now, ctime=now, dev=DEV_SHMEM
    )
    if flags & (allow_sealing | noexec):
        inode.seals = F_SEAL_EXEC if flags & noexec else 0
    file = RegularFile(inode, O_RDWR | O_LARGEFILE, f"/memfd:{name} (deleted)")
    return t.files.add(t, file, bool(flags & cloexec))


CALLS: Final = (
    Call("openat", sys_openat, why="O_DIRECT and O_SYNC have no effect"),
    Call("memfd_create", sys_memfd_create, why="no huge pages"),
    Call("openat2", sys_openat2, why="as openat; for RESOLVE_CACHED every name is cached"),
)
