"""inotify: a descriptor that reports events of files and directories."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    FIONREAD,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONESHOT,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDONLY,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.eventfds import Anonymous, anonymous
from shstk.tracer.kernel.fs.files import READABLE
from shstk.tracer.kernel.fs.fsnotify import EVENTS, Watch
from shstk.tracer.kernel.fs.inode import READ, Directory, Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.tree.hosttree import raw
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find, get_path

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_HOW: Final = IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD
_KNOWN: Final = EVENTS | _HOW | IN_ONESHOT
_SHOWN: Final = EVENTS | IN_EXCL_UNLINK | IN_ONESHOT  # by /proc/PID/fdinfo
_QUEUED_MAX: Final = 16384  # fs.inotify.max_queued_events
_HEAD: Final = struct.Struct("<iIII")  # struct inotify_event: wd, mask, cookie, len


class Inotify(Anonymous):
    def __init__(self, inode: Inode, flags: int) -> None:
        super().__init__(inode, flags, "anon_inode:inotify")
        self.watches: dict[int, Watch] = {}
        self.count = 0  # watches ever added
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

    def details(self, k: Kernel) -> str:
        return "".join(
            f"inotify wd:{watch.wd:x} ino:{watch.inode.ino:x} sdev:{watch.inode.dev:x}"
            f" mask:{watch.mask & _SHOWN:x} ignored_mask:0 \n"
            for watch in reversed(self.watches.values())
        )

    def add(self, k: Kernel, wd: int, mask: int, cookie: int = 0, name: str = "") -> None:
        """Queue an event, unless it equals the last one in the queue."""
        padded = raw(name) + b"\0" if name else b""
        padded = padded.ljust(-(-len(padded) // _HEAD.size) * _HEAD.size, b"\0")
        event = _HEAD.pack(wd, mask, cookie, len(padded)) + padded
        if len(self.queue) >= _QUEUED_MAX:
            event = _HEAD.pack(-1, IN_Q_OVERFLOW, 0, 0)
        if not self.queue or self.queue[-1] != event:
            self.queue.append(event)
            self.notify(k, READABLE)

    def forget(self, k: Kernel, watch: Watch) -> None:
        watch.inode.watches.remove(watch)
        del self.watches[watch.wd]
        self.add(k, watch.wd, IN_IGNORED)


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
    """If the inode is watched already, its mask is changed."""
    mask = a[2] & 0xFFFF_FFFF
    if not mask & EVENTS or mask & ~_KNOWN or (mask & IN_MASK_ADD and mask & IN_MASK_CREATE):
        raise Errno("EINVAL")
    file = _inotify(t, a[0])
    path = get_path(k, t, a[1])
    inode = find(k, t, AT_FDCWD, path, follow=not mask & IN_DONT_FOLLOW).existing()
    if mask & IN_ONLYDIR and not isinstance(inode, Directory):
        raise Errno("ENOTDIR")
    inode.permit(READ)
    known = next((watch for watch in inode.watches if watch.file is file), None)
    if known is not None:
        if mask & IN_MASK_CREATE:
            raise Errno("EEXIST")
        known.mask = known.mask | mask if mask & IN_MASK_ADD else mask
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
    Call(
        "inotify_add_watch", sys_inotify_add_watch, why="changes that the host makes are not seen"
    ),
    Call("inotify_rm_watch", sys_inotify_rm_watch),
)
