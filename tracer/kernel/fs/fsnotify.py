"""File events, delivered to the watches of an inode (fs/notify/fsnotify.c).

A call that does something to a file reports it by `notify`. An event that no watch matches is
dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    IN_ATTRIB,
    IN_CLOSE_NOWRITE,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_EXCL_UNLINK,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONESHOT,
)
from shstk.tracer.kernel.fs.inode import Directory, Inode
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.files import OpenFile
    from shstk.tracer.kernel.fs.inotify import Inotify
    from shstk.tracer.kernel.kernel import Kernel

EVENTS: Final = 0xFFF  # IN_ACCESS to IN_MOVE_SELF

Place = tuple[Directory, str]


@dataclass(eq=False)
class Watch:
    file: Inotify
    wd: int
    inode: Inode
    mask: int


class Cookies:
    """A number for each rename; its two events carry the same one."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> int:
        self._last += 1
        return self._last


_COOKIES: Final = Slot(Cookies)


def notify(k: Kernel, inode: Inode, mask: int, place: Place | None = None, cookie: int = 0) -> None:
    """Report an event to the watches of the parent directory, with the name, then to those of the
    inode itself. Without a `place`, the parent is the one that the inode was last linked into.

    IN_CREATE, IN_DELETE and IN_MOVED_* go to the directory only.
    """
    place = place or inode.place
    if place is not None:
        directory, name = place
        for watch in list(directory.watches):
            unnamed = watch.mask & IN_EXCL_UNLINK and not mask & IN_DELETE and not inode.nlink
            if watch.mask & mask and not unnamed:
                _report(k, watch, mask | _kind(inode), cookie, name)
    if not mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO):
        _notify_self(k, inode, mask | _kind(inode))


def _notify_self(k: Kernel, inode: Inode, mask: int) -> None:
    for watch in list(inode.watches):
        if watch.mask & mask & EVENTS:
            _report(k, watch, mask, 0, "")


def _kind(inode: Inode) -> int:
    return IN_ISDIR if isinstance(inode, Directory) else 0


def _report(k: Kernel, watch: Watch, mask: int, cookie: int, name: str) -> None:
    watch.file.add(k, watch.wd, mask, cookie, name)
    if watch.mask & IN_ONESHOT:
        watch.file.forget(k, watch)


def used(k: Kernel, inode: Inode, event: int, count: int) -> None:
    """`count` bytes were read (IN_ACCESS) or written (IN_MODIFY)."""
    if count:
        notify(k, inode, event)


def closed(k: Kernel, file: OpenFile) -> None:
    """The last reference to an open file description was dropped."""
    if file.readable or file.writable:  # else it was opened with O_PATH
        notify(k, file.inode, IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE)
    _gone(k, file.inode)


def linked(k: Kernel, inode: Inode) -> None:
    _notify_self(k, inode, IN_ATTRIB)
    notify(k, inode, IN_CREATE)


def unlinked(k: Kernel, inode: Inode, place: Place | None) -> None:
    """A name was removed: by unlink or rmdir at `place`, or (None) by a rename over it."""
    if not isinstance(inode, Directory):
        _notify_self(k, inode, IN_ATTRIB)
    if place is not None:
        notify(k, inode, IN_DELETE, place)
    _gone(k, inode)


def moved(k: Kernel, inode: Inode, old: Place, new: Place) -> None:
    cookie = _COOKIES.of(k).new()
    notify(k, inode, IN_MOVED_FROM, old, cookie)
    notify(k, inode, IN_MOVED_TO, new, cookie)
    _notify_self(k, inode, IN_MOVE_SELF)


def _gone(k: Kernel, inode: Inode) -> None:
    """Remove the watches of an inode that has neither a name nor an open descriptor."""
    if inode.watches and not inode.nlink and not _is_open(k, inode):
        _notify_self(k, inode, IN_DELETE_SELF)
        for watch in list(inode.watches):
            watch.file.forget(k, watch)


def _is_open(k: Kernel, inode: Inode) -> bool:
    tables = (task.files for task in k.tasks.values())
    return any(file.inode is inode for files in tables for file in files.slots.values())
