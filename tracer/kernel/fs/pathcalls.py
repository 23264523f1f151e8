"""Calls that change names (directories, links, renames), the working directory and umask."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    AT_EMPTY_PATH,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    IN_CREATE,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify
from shstk.tracer.kernel.fs.inode import (
    EXECUTE,
    WRITE,
    Directory,
    Inode,
    Regular,
    Symlink,
)
from shstk.tracer.kernel.fs.pipes import Fifo
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.net.sockets import SocketNode
from shstk.tracer.kernel.time.clock import realtime_ns
from shstk.tracer.kernel.tree.hosttree import raw
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, PATH_MAX, Found, find, find_at, get_path

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_DOTS: Final = ("", ".", "..")  # a last name that isn't one (last_type other than LAST_NORM)
_NODES: Final[dict[int, type[Inode]]] = {
    stat.S_IFREG: Regular,
    stat.S_IFIFO: Fifo,
    stat.S_IFSOCK: SocketNode,
}


def _place_for(k: Kernel, t: Task, dirfd: int, path: str, directory: bool = False) -> Found:
    """Where a new name is to be created. Errno EEXIST if it exists."""
    found = find(k, t, dirfd, path, follow=False)
    if found.inode is not None or found.name in _DOTS:
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
    """Only root may create devices. vfs_mknod() says so after the directory was found writable."""
    mode = a[2] & 0xFFFF_FFFF
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    device = kind in (stat.S_IFCHR, stat.S_IFBLK)
    if kind not in _NODES and not device:
        raise Errno("EPERM" if kind == stat.S_IFDIR else "EINVAL")
    found = _place_for(k, t, a[0], get_path(k, t, a[1]))
    if device:
        found.parent.permit(WRITE | EXECUTE)
        raise Errno("EPERM")
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
    """do_linkat(), vfs_link()."""
    flags = a[4] & 0xFFFF_FFFF
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise Errno("EINVAL")
    how = flags & AT_EMPTY_PATH | (0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW)
    inode = find_at(k, t, a[0], a[1], how)
    found = _place_for(k, t, a[2], get_path(k, t, a[3]))
    if inode.dev != found.parent.dev:
        raise Errno("EXDEV")
    found.parent.permit(WRITE | EXECUTE)
    if isinstance(inode, Directory):
        raise Errno("EPERM")
    if not inode.nlink and not (isinstance(inode, Regular) and inode.linkable):
        raise Errno("ENOENT")
    inode.see(k)
    found.parent.link(found.name, inode, realtime_ns(k))
    inode.nlink += 1
    if isinstance(inode, Regular):
        inode.linkable = False
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


def _writable(directory: Directory) -> None:
    """mnt_want_write(): it comes before the lookup of the last name. Errno EROFS."""
    if directory.read_only:
        raise Errno("EROFS")


def sys_unlinkat(k: Kernel, t: Task, a: Args) -> int:
    """do_unlinkat() and do_rmdir(); may_delete() checks the parent before what is deleted."""
    flags = a[2] & 0xFFFF_FFFF
    if flags & ~AT_REMOVEDIR:
        raise Errno("EINVAL")
    unlink(k, t, a[0], get_path(k, t, a[1]), flags)
    return 0


def unlink(k: Kernel, t: Task, dirfd: int, path: str, flags: int = 0) -> None:
    """flags: AT_REMOVEDIR or 0."""
    found = find(k, t, dirfd, path, follow=False)
    if flags & AT_REMOVEDIR and found.name in (".", "..", ""):
        raise Errno({".": "EINVAL", "..": "ENOTEMPTY", "": "EBUSY"}[found.name])
    if found.name in (".", "..", ""):
        raise Errno("EISDIR")
    _writable(found.parent)
    inode = found.existing()
    found.parent.permit(WRITE | EXECUTE)
    if flags & AT_REMOVEDIR:
        if not isinstance(inode, Directory):
            raise Errno("ENOTDIR")
        _removable(k, inode)
    elif isinstance(inode, Directory):
        raise Errno("EISDIR")
    found.parent.unlink(found.name, realtime_ns(k))
    _forget(k, inode)
    fsnotify.unlinked(k, inode, (found.parent, found.name))


def _to_rename(k: Kernel, t: Task, a: Args) -> tuple[Found, Found, Inode]:
    """do_renameat2() up to vfs_rename(): both places, and what is moved. Errnos in its order."""
    flags = a[4] & 0xFFFF_FFFF
    if flags & ~(_RENAME_NOREPLACE | _RENAME_EXCHANGE) or flags == 3:
        raise Errno("EINVAL")
    paths = get_path(k, t, a[1]), get_path(k, t, a[3])
    old = find(k, t, a[0], paths[0], follow=False)
    new = find(k, t, a[2], paths[1], follow=False)
    if old.parent.dev != new.parent.dev:
        raise Errno("EXDEV")
    if old.name in _DOTS or new.name in _DOTS:
        taken = flags & _RENAME_NOREPLACE and old.name not in _DOTS
        raise Errno("EEXIST" if taken else "EBUSY")
    _writable(old.parent)
    moved = old.existing()
    if new.inode is not None and flags & _RENAME_NOREPLACE:
        raise Errno("EEXIST")
    if flags & _RENAME_EXCHANGE:
        new.existing()
    elif new.must_be_dir and not isinstance(moved, Directory):
        raise Errno("ENOTDIR")
    if isinstance(moved, Directory) and _above(moved, new.parent):
        raise Errno("EINVAL")
    if isinstance(new.inode, Directory) and _above(new.inode, old.parent):
        raise Errno("EINVAL" if flags & _RENAME_EXCHANGE else "ENOTEMPTY")
    return old, new, moved


def _check_rename(k: Kernel, old: Found, new: Found, moved: Inode, exchange: bool) -> None:
    """vfs_rename(): may_delete() for both names, then mount points, then what is replaced."""
    replaced = new.inode
    old.parent.permit(WRITE | EXECUTE)
    new.parent.permit(WRITE | EXECUTE)
    if replaced is not None and not exchange:
        if isinstance(moved, Directory) and not isinstance(replaced, Directory):
            raise Errno("ENOTDIR")
        if isinstance(replaced, Directory) and not isinstance(moved, Directory):
            raise Errno("EISDIR")
    if moved.mount or (replaced is not None and replaced.mount):
        raise Errno("EBUSY")
    if isinstance(replaced, Directory) and not exchange:
        _removable(k, replaced)


def sys_renameat2(k: Kernel, t: Task, a: Args) -> int:
    old, new, moved = _to_rename(k, t, a)
    replaced, exchange = new.inode, bool(a[4] & _RENAME_EXCHANGE)
    if replaced is moved:
        return 0
    _check_rename(k, old, new, moved, exchange)
    moved.see(k)
    now = realtime_ns(k)
    new.parent.link(new.name, moved, now)
    fsnotify.moved(k, moved, (old.parent, old.name), (new.parent, new.name))
    if exchange:
        assert replaced is not None
        old.parent.link(old.name, replaced, now)
        fsnotify.moved(k, replaced, (new.parent, new.name), (old.parent, old.name))
        return 0
    old.parent.unlink(old.name, now)
    moved.changed(now)
    if replaced is not None:
        _forget(k, replaced)
        fsnotify.unlinked(k, replaced, None)
    return 0


def _above(directory: Directory, here: Directory) -> bool:
    """Whether it is `here` or contains it."""
    while here is not directory:
        if here.parent is here:
            return False
        here = here.parent
    return True


def _chdir(k: Kernel, t: Task, inode: Inode) -> int:
    if not isinstance(inode, Directory):
        raise Errno("ENOTDIR")
    inode.permit(EXECUTE)
    inode.see(k)
    t.fs.cwd = inode
    return 0


def sys_chdir(k: Kernel, t: Task, a: Args) -> int:
    return _chdir(k, t, find_at(k, t, AT_FDCWD, a[0], 0))


def sys_chroot(k: Kernel, t: Task, a: Args) -> int:
    """The path is checked before the capability (ksys_chroot)."""
    inode = find_at(k, t, AT_FDCWD, a[0], 0)
    if not isinstance(inode, Directory):
        raise Errno("ENOTDIR")
    inode.permit(EXECUTE)
    raise Errno("EPERM")


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


CALLS: Final = (
    Call("getcwd", sys_getcwd),
    Call("mknodat", sys_mknodat),
    Call("mkdirat", sys_mkdirat),
    Call("unlinkat", sys_unlinkat),
    Call("symlinkat", sys_symlinkat),
    Call("linkat", sys_linkat),
    Call("chdir", sys_chdir),
    Call("fchdir", sys_fchdir),
    Call("chroot", sys_chroot, "refused", "needs a capability that an ordinary user lacks"),
    Call("umask", sys_umask),
    Call("renameat2", sys_renameat2, why="no RENAME_WHITEOUT: -EINVAL"),
)
