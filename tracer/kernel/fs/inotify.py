"""inotify: a descriptor that tells what happens to files and in directories.

Every call that does something to a file says so by `tell`; nothing is kept for what nobody watches.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.eventfds import anonymous
from shstk.tracer.kernel.fs.files import O_CLOEXEC, O_NONBLOCK, O_PATH, O_RDONLY, READABLE, OpenFile
from shstk.tracer.kernel.fs.inode import READ, Directory, Inode
from shstk.tracer.kernel.fs.ioctl import FIONREAD
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.tree.hosttree import raw
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find, get_path

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

# include/uapi/linux/inotify.h
ACCESS, MODIFY, ATTRIB, CLOSE_WRITE, CLOSE_NOWRITE, OPEN = 1, 2, 4, 8, 0x10, 0x20
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = (
    0x40,
    0x80,
    0x100,
    0x200,
    0x400,
    0x800,
)
_Q_OVERFLOW, _IGNORED, _ISDIR = 0x4000, 0x8000, 0x4000_0000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK = 0x100_0000, 0x200_0000, 0x400_0000
_MASK_CREATE, _MASK_ADD, _ONESHOT = 0x1000_0000, 0x2000_0000, 0x8000_0000
_EVENTS: Final = 0xFFF
_KNOWN: Final = (
    _EVENTS | _ONLYDIR | _DONT_FOLLOW | _EXCL_UNLINK | _MASK_CREATE | _MASK_ADD | _ONESHOT
)
_QUEUED_MAX: Final = 16384  # fs.inotify.max_queued_events
_HEAD: Final = struct.Struct("<iIII")  # struct inotify_event: wd, mask, cookie, len

Place = tuple[Directory, str]


@dataclass(eq=False)
class Watch:
    file: Inotify
    wd: int
    inode: Inode
    mask: int


class Inotify(OpenFile):
    def __init__(self, inode: Inode, flags: int) -> None:
        super().__init__(inode, flags, "anon_inode:inotify")
        self.watches: dict[int, Watch] = {}
        self.count = 0  # watches, ever
        self.queue: deque[bytes] = deque()

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        out = b""
        for event in self.queue:
            if len(out) + len(event) > n:
                break
            out += event
        if self.queue and not out:
            raise Errno("EINVAL")
        return out or None

    def advance(self, k: Kernel, n: int) -> None:
        while n > 0:
            n -= len(self.queue.popleft())

    def ready(self, k: Kernel) -> int:
        return READABLE if self.queue else 0

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if request != FIONREAD:
            raise Errno("ENOTTY")
        usermem.put_u32(k, t, arg, sum(map(len, self.queue)))
        return 0

    def released(self, k: Kernel) -> None:
        for watch in self.watches.values():
            watch.inode.watches.remove(watch)
        self.watches.clear()

    def add(self, k: Kernel, wd: int, mask: int, cookie: int = 0, name: str = "") -> None:
        """An event that is like the last one is told once."""
        padded = raw(name) + b"\0" if name else b""
        padded = padded.ljust(-(-len(padded) // _HEAD.size) * _HEAD.size, b"\0")
        event = _HEAD.pack(wd, mask, cookie, len(padded)) + padded
        if len(self.queue) >= _QUEUED_MAX:
            event = _HEAD.pack(-1, _Q_OVERFLOW, 0, 0)
        if not self.queue or self.queue[-1] != event:
            self.queue.append(event)
            self.notify(k)

    def forget(self, k: Kernel, watch: Watch) -> None:
        watch.inode.watches.remove(watch)
        del self.watches[watch.wd]
        self.add(k, watch.wd, _IGNORED)


def tell(k: Kernel, inode: Inode, mask: int, place: Place | None = None, cookie: int = 0) -> None:
    """First, with its name, to who watches where the inode lies (a file with several names: where
    it was linked last, unless `place` says more), then to who watches the inode itself.

    CREATE, DELETE and MOVED_* are for the directory alone.
    """
    place = place or inode.place
    if place is not None:
        directory, name = place
        for watch in list(directory.watches):
            unnamed = watch.mask & _EXCL_UNLINK and not mask & DELETE and not inode.nlink
            if watch.mask & mask and not unnamed:
                _report(k, watch, mask | _kind(inode), cookie, name)
    if not mask & (CREATE | DELETE | MOVED_FROM | MOVED_TO):
        _tell_itself(k, inode, mask | _kind(inode))


def _tell_itself(k: Kernel, inode: Inode, mask: int) -> None:
    for watch in list(inode.watches):
        if watch.mask & mask & _EVENTS:
            _report(k, watch, mask, 0, "")


def _kind(inode: Inode) -> int:
    return _ISDIR if isinstance(inode, Directory) else 0


def _report(k: Kernel, watch: Watch, mask: int, cookie: int, name: str) -> None:
    watch.file.add(k, watch.wd, mask, cookie, name)
    if watch.mask & _ONESHOT:
        watch.file.forget(k, watch)


def used(k: Kernel, inode: Inode, event: int, count: int) -> None:
    """So many bytes were read (ACCESS) or written (MODIFY)."""
    if count:
        tell(k, inode, event)


def closed(k: Kernel, file: OpenFile) -> None:
    """The last holder of a description has let go of it."""
    if not file.flags & O_PATH:
        tell(k, file.inode, CLOSE_WRITE if file.writable else CLOSE_NOWRITE)
    _gone(k, file.inode)


def linked(k: Kernel, inode: Inode) -> None:
    _tell_itself(k, inode, ATTRIB)
    tell(k, inode, CREATE)


def unlinked(k: Kernel, inode: Inode, place: Place | None) -> None:
    """A name is gone; place: by unlink or rmdir, None: by a rename to it."""
    if not isinstance(inode, Directory):
        _tell_itself(k, inode, ATTRIB)
    if place is not None:
        tell(k, inode, DELETE, place)
    _gone(k, inode)


def moved(k: Kernel, inode: Inode, old: Place, new: Place) -> None:
    k.renames += 1
    tell(k, inode, MOVED_FROM, old, k.renames)
    tell(k, inode, MOVED_TO, new, k.renames)
    _tell_itself(k, inode, MOVE_SELF)


def _gone(k: Kernel, inode: Inode) -> None:
    """The watches of an inode end when it has neither a name nor a user any more."""
    if inode.watches and not inode.nlink and not _is_open(k, inode):
        _tell_itself(k, inode, DELETE_SELF)
        for watch in list(inode.watches):
            watch.file.forget(k, watch)


def _is_open(k: Kernel, inode: Inode) -> bool:
    tables = (task.files for task in k.tasks.values())
    return any(file.inode is inode for files in tables for file in files.slots.values())


def sys_inotify_init1(k: Kernel, t: Task, a: Args) -> int:
    flags = a[0] & 0xFFFF_FFFF
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    file = Inotify(anonymous(k), O_RDONLY | flags & O_NONBLOCK)
    return t.files.add(t, file, bool(flags & O_CLOEXEC))


def _inotify(t: Task, fd: int) -> Inotify:
    file = t.files.get(fd)
    if not isinstance(file, Inotify):
        raise Errno("EINVAL")
    return file


def sys_inotify_add_watch(k: Kernel, t: Task, a: Args) -> int:
    """A watch of an inode that is watched already has its mask changed."""
    mask = a[2] & 0xFFFF_FFFF
    if not mask & _EVENTS or mask & ~_KNOWN or (mask & _MASK_ADD and mask & _MASK_CREATE):
        raise Errno("EINVAL")
    file = _inotify(t, a[0])
    path = get_path(k, t, a[1])
    inode = find(k, t, AT_FDCWD, path, follow=not mask & _DONT_FOLLOW).existing()
    if mask & _ONLYDIR and not isinstance(inode, Directory):
        raise Errno("ENOTDIR")
    inode.permit(READ)
    known = next((watch for watch in inode.watches if watch.file is file), None)
    if known is not None:
        if mask & _MASK_CREATE:
            raise Errno("EEXIST")
        known.mask = known.mask | mask if mask & _MASK_ADD else mask
        return known.wd
    file.count += 1
    watch = Watch(file, file.count, inode, mask)
    file.watches[watch.wd] = watch
    inode.watches.append(watch)
    return watch.wd


def sys_inotify_rm_watch(k: Kernel, t: Task, a: Args) -> int:
    file = _inotify(t, a[0])
    watch = file.watches.get(a[1] & 0xFFFF_FFFF)
    if watch is None:
        raise Errno("EINVAL")
    file.forget(k, watch)
    return 0


CALLS: Final = (
    Call("inotify_init1", sys_inotify_init1),
    Call("inotify_add_watch", sys_inotify_add_watch),
    Call("inotify_rm_watch", sys_inotify_rm_watch),
)
