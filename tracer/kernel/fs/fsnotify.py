"""Events of files, for whoever watches them (fs/notify/fsnotify.c).

A call that does something to a file reports it by `tell`. An event that nobody watches is dropped.
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
    """A number for each rename, by which its two events are known to be one."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> int:
        self._last += 1
        return self._last


_COOKIES: Final = Slot(Cookies)


def tell(k: Kernel, inode: Inode, mask: int, place: Place | None = None, cookie: int = 0) -> None:
    """First, with its name, to who watches where the inode lies (a file with several names: where
    it was linked last, unless `place` says more), then to who watches the inode itself.

    IN_CREATE, IN_DELETE and IN_MOVED_* are for the directory alone.
    """
    place = place or inode.place
    if place is not None:
        directory, name = place
        for watch in list(directory.watches):
            unnamed = watch.mask & IN_EXCL_UNLINK and not mask & IN_DELETE and not inode.nlink
            if watch.mask & mask and not unnamed:
                _report(k, watch, mask | _kind(inode), cookie, name)
    if not mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO):
        _tell_itself(k, inode, mask | _kind(inode))


def _tell_itself(k: Kernel, inode: Inode, mask: int) -> None:
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
    """So many bytes were read (IN_ACCESS) or written (IN_MODIFY)."""
    if count:
        tell(k, inode, event)


def closed(k: Kernel, file: OpenFile) -> None:
    """The last holder of a description has let go of it."""
    if file.readable or file.writable:  # else it was opened with O_PATH
        tell(k, file.inode, IN_CLOSE_WRITE if file.writable else IN_CLOSE_NOWRITE)
    _gone(k, file.inode)


def linked(k: Kernel, inode: Inode) -> None:
    _tell_itself(k, inode, IN_ATTRIB)
    tell(k, inode, IN_CREATE)


def unlinked(k: Kernel, inode: Inode, place: Place | None) -> None:
    """A name is gone; place: by unlink or rmdir, None: by a rename to it."""
    if not isinstance(inode, Directory):
        _tell_itself(k, inode, IN_ATTRIB)
    if place is not None:
        tell(k, inode, IN_DELETE, place)
    _gone(k, inode)


def moved(k: Kernel, inode: Inode, old: Place, new: Place) -> None:
    cookie = _COOKIES.of(k).new()
    tell(k, inode, IN_MOVED_FROM, old, cookie)
    tell(k, inode, IN_MOVED_TO, new, cookie)
    _tell_itself(k, inode, IN_MOVE_SELF)


def _gone(k: Kernel, inode: Inode) -> None:
    """The watches of an inode end when it has neither a name nor a user any more."""
    if inode.watches and not inode.nlink and not _is_open(k, inode):
        _tell_itself(k, inode, IN_DELETE_SELF)
        for watch in list(inode.watches):
            watch.file.forget(k, watch)


def _is_open(k: Kernel, inode: Inode) -> bool:
    tables = (task.files for task in k.tasks.values())
    return any(file.inode is inode for files in tables for file in files.slots.values())
