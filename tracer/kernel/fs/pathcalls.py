"""Calls that change names (directories, links, renames), sizes, the working directory and umask."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, IN_CREATE, IN_MODIFY
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify
from shstk.tracer.kernel.fs.inode import (
    EXECUTE,
    WRITE,
    Device,
    Directory,
    Inode,
    Regular,
    Symlink,
)
from shstk.tracer.kernel.fs.pipes import Fifo
from shstk.tracer.kernel.fs.regular import RegularFile, check_size, resize
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.time.clock import realtime_ns
from shstk.tracer.kernel.tree.hosttree import raw
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, PATH_MAX, Found, find, find_at, get_path

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_NODES: Final[dict[int, type[Inode]]] = {stat.S_IFREG: Regular, stat.S_IFIFO: Fifo}


def _place_for(k: Kernel, t: Task, dirfd: int, path: str, directory: bool = False) -> Found:
    """Where a new name is to be created. Errno EEXIST if it exists."""
    found = find(k, t, dirfd, path, follow=False)
    if found.inode is not None or found.name in ("", ".", ".."):
        raise Errno("EEXIST")
    if found.must_be_dir and not directory:
        raise Errno("ENOENT")
    return found


def sys_mkdirat(k: Kernel, t: Task, a: Args) -> int:
    found = _place_for(k, t, a[0], get_path(k, t, a[1]), directory=True)
    now = realtime_ns(k)
    mode = stat.S_IFDIR | a[2] & 0o1777 & ~t.fs.umask
    new = Directory(k.sandbox.new_ino(), mode, atime=now, mtime=now, ctime=now, parent=found.parent)
    found.parent.link(found.name, new, now)
    fsnotify.notify(k, new, IN_CREATE)
    return 0


def sys_mknodat(k: Kernel, t: Task, a: Args) -> int:
    """Regular files and named pipes; only root may create devices."""
    mode = a[2] & 0xFFFF_FFFF
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    if kind not in _NODES:
        raise Errno("EPERM")
    found = _place_for(k, t, a[0], get_path(k, t, a[1]))
    now = realtime_ns(k)
    bits = kind | mode & 0o7777 & ~t.fs.umask
    new = _NODES[kind](k.sandbox.new_ino(), bits, atime=now, mtime=now, ctime=now)
    found.parent.link(found.name, new, now)
    fsnotify.notify(k, new, IN_CREATE)
    return 0


def sys_symlinkat(k: Kernel, t: Task, a: Args) -> int:
    target = get_path(k, t, a[0])
    if not target:
        raise Errno("ENOENT")
    found = _place_for(k, t, a[1], get_path(k, t, a[2]))
    now = realtime_ns(k)
    mode = stat.S_IFLNK | 0o777
    new = Symlink(k.sandbox.new_ino(), mode, atime=now, mtime=now, ctime=now, target=target)
    found.parent.link(found.name, new, now)
    fsnotify.notify(k, new, IN_CREATE)
    return 0


def sys_linkat(k: Kernel, t: Task, a: Args) -> int:
    flags = a[4] & 0xFFFF_FFFF
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise Errno("EINVAL")
    old = find(k, t, a[0], get_path(k, t, a[1]), follow=bool(flags & AT_SYMLINK_FOLLOW))
    inode = old.existing()
    found = _place_for(k, t, a[2], get_path(k, t, a[3]))
    if isinstance(inode, Directory):
        raise Errno("EPERM")
    if inode.dev != found.parent.dev:
        raise Errno("EXDEV")
    inode.see(k)
    found.parent.link(found.name, inode, realtime_ns(k))
    inode.nlink += 1
    inode.changed(realtime_ns(k))
    fsnotify.linked(k, inode)
    return 0


def _removable(k: Kernel, directory: Directory) -> None:
    if directory.mount:
        raise Errno("EBUSY")
    directory.see(k)
    if directory.names(k):
        raise Errno("ENOTEMPTY")


def _forget(k: Kernel, inode: Inode) -> None:
    """Drop one link. The storage is freed with the last link or the last close."""
    inode.see(k)
    inode.nlink = 0 if isinstance(inode, Directory) else inode.nlink - 1
    inode.changed(realtime_ns(k))


def sys_unlinkat(k: Kernel, t: Task, a: Args) -> int:
    flags = a[2] & 0xFFFF_FFFF
    if flags & ~AT_REMOVEDIR:
        raise Errno("EINVAL")
    path = get_path(k, t, a[1])
    found = find(k, t, a[0], path, follow=False)
    if flags & AT_REMOVEDIR:
        if found.name in (".", "..", ""):
            raise Errno({".": "EINVAL", "..": "ENOTEMPTY", "": "EBUSY"}[found.name])
        inode = found.existing()
        if not isinstance(inode, Directory):
            raise Errno("ENOTDIR")
        _removable(k, inode)
    else:
        inode = found.existing()
        if isinstance(inode, Directory):
            raise Errno("EISDIR")
    found.parent.unlink(found.name, realtime_ns(k))
    _forget(k, inode)
    fsnotify.unlinked(k, inode, (found.parent, found.name))
    return 0


def sys_renameat2(k: Kernel, t: Task, a: Args) -> int:
    flags = a[4] & 0xFFFF_FFFF
    if flags & ~(_RENAME_NOREPLACE | _RENAME_EXCHANGE) or flags == 3:
        raise Errno("EINVAL")
    old = find(k, t, a[0], get_path(k, t, a[1]), follow=False)
    new = find(k, t, a[2], get_path(k, t, a[3]), follow=False)
    moved, replaced = old.existing(), new.inode
    if {old.name, new.name} & {"", ".", ".."}:
        raise Errno("EBUSY")
    if replaced is not None and flags & _RENAME_NOREPLACE:
        raise Errno("EEXIST")
    if old.parent.dev != new.parent.dev:
        raise Errno("EXDEV")
    if isinstance(moved, Directory):
        _check_no_loop(moved, new.parent)
        if moved.mount:
            raise Errno("EBUSY")
    elif new.must_be_dir:
        raise Errno("ENOTDIR")
    moved.see(k)
    now = realtime_ns(k)
    if flags & _RENAME_EXCHANGE:
        other = new.existing()
        if isinstance(other, Directory):
            _check_no_loop(other, old.parent)
        old.parent.link(old.name, other, now)
        new.parent.link(new.name, moved, now)
        fsnotify.moved(k, moved, (old.parent, old.name), (new.parent, new.name))
        fsnotify.moved(k, other, (new.parent, new.name), (old.parent, old.name))
        return 0
    if replaced is moved:
        return 0
    if replaced is not None:
        if isinstance(replaced, Directory):
            if not isinstance(moved, Directory):
                raise Errno("EISDIR")
            _removable(k, replaced)
        elif isinstance(moved, Directory):
            raise Errno("ENOTDIR")
    old.parent.permit(WRITE | EXECUTE)
    new.parent.link(new.name, moved, now)
    old.parent.unlink(old.name, now)
    moved.changed(now)
    fsnotify.moved(k, moved, (old.parent, old.name), (new.parent, new.name))
    if replaced is not None:
        _forget(k, replaced)
        fsnotify.unlinked(k, replaced, None)
    return 0


def _check_no_loop(moved: Directory, to: Directory) -> None:
    """A directory can't be moved into itself. Errno EINVAL."""
    here = to
    while here is not moved:
        if here.parent is here:
            return
        here = here.parent
    raise Errno("EINVAL")


def _sized(inode: Inode) -> Regular:
    if isinstance(inode, Directory):
        raise Errno("EISDIR")
    if not isinstance(inode, Regular):
        raise Errno("EINVAL")
    return inode


def _resize(k: Kernel, t: Task, inode: Regular, size: int) -> None:
    if size >= 1 << 63:
        raise Errno("EINVAL")
    check_size(k, t, size)
    resize(k, inode, size)
    fsnotify.notify(k, inode, IN_MODIFY)


def sys_truncate(k: Kernel, t: Task, a: Args) -> int:
    inode = _sized(find_at(k, t, AT_FDCWD, a[0], 0))
    inode.permit(WRITE)
    _resize(k, t, inode, a[1])
    return 0


def sys_ftruncate(k: Kernel, t: Task, a: Args) -> int:
    file = t.files.get(a[0])
    if not file.writable or not isinstance(file.inode, Regular):
        raise Errno("EINVAL")
    _resize(k, t, file.inode, a[1])
    return 0


def sys_fallocate(k: Kernel, t: Task, a: Args) -> int:
    """Allocation only. With KEEP_SIZE it has no effect: memory is allocated on write."""
    file, mode, offset, length = t.files.get(a[0]), a[1] & 0xFFFF_FFFF, a[2], a[3]
    keep_size = 1
    if not file.writable:
        raise Errno("EBADF")
    if mode & ~keep_size:
        raise Errno("EOPNOTSUPP")
    if not isinstance(file, RegularFile):
        raise Errno("ESPIPE" if stat.S_ISFIFO(file.inode.mode) else "ENODEV")
    if not length or offset >= 1 << 63 or length >= 1 << 63:
        raise Errno("EINVAL")
    check_size(k, t, offset + length)
    if not mode and offset + length > file.inode.size:
        resize(k, file.regular, offset + length)
    return 0


def _chdir(k: Kernel, t: Task, inode: Inode) -> int:
    if not isinstance(inode, Directory):
        raise Errno("ENOTDIR")
    inode.permit(EXECUTE)
    inode.see(k)
    t.fs.cwd = inode
    return 0


def sys_chdir(k: Kernel, t: Task, a: Args) -> int:
    return _chdir(k, t, find_at(k, t, AT_FDCWD, a[0], 0))


def sys_fchdir(k: Kernel, t: Task, a: Args) -> int:
    return _chdir(k, t, t.files.get(a[0], path_only=True).inode)


def sys_getcwd(k: Kernel, t: Task, a: Args) -> int:
    if t.fs.cwd.nlink == 0:
        raise Errno("ENOENT")
    path = raw(t.fs.cwd.path()) + b"\0"
    if len(path) > PATH_MAX:
        raise Errno("ENAMETOOLONG")
    if len(path) > a[1]:
        raise Errno("ERANGE")
    usermem.put(k, t, a[0], path)
    return len(path)


def sys_umask(k: Kernel, t: Task, a: Args) -> int:
    old, t.fs.umask = t.fs.umask, a[0] & 0o777
    return old


def _sync(k: Kernel, t: Task, a: Args) -> int:
    return 0


def _fsync(k: Kernel, t: Task, a: Args) -> int:
    inode = t.files.get(a[0]).inode
    if not isinstance(inode, Regular | Directory | Device):
        raise Errno("EINVAL")
    return 0


def sys_fadvise64(k: Kernel, t: Task, a: Args) -> int:
    if stat.S_ISFIFO(t.files.get(a[0]).inode.mode):
        raise Errno("ESPIPE")
    if a[3] & 0xFFFF_FFFF > 5:
        raise Errno("EINVAL")
    return 0


_MEMORY: Final = "files are in memory: nothing to do"

CALLS: Final = (
    Call("getcwd", sys_getcwd),
    Call("mknodat", sys_mknodat),
    Call("mkdirat", sys_mkdirat),
    Call("unlinkat", sys_unlinkat),
    Call("symlinkat", sys_symlinkat),
    Call("linkat", sys_linkat),
    Call("truncate", sys_truncate),
    Call("ftruncate", sys_ftruncate),
    Call("fallocate", sys_fallocate),
    Call("chdir", sys_chdir),
    Call("fchdir", sys_fchdir),
    Call("sync", _sync, "simple", _MEMORY),
    Call("fsync", _fsync, "simple", _MEMORY),
    Call("fdatasync", _fsync, "simple", _MEMORY),
    Call("sync_file_range", _fsync, "simple", _MEMORY),
    Call("umask", sys_umask),
    Call("readahead", _fsync, "simple", _MEMORY),
    Call("fadvise64", sys_fadvise64, "simple", _MEMORY),
    Call("syncfs", _fsync, "simple", _MEMORY),
    Call("renameat2", sys_renameat2),
)
