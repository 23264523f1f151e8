"""Descriptors and open file descriptions.

A description (`OpenFile`) is what dup, fork and CLONE_FILES share: the position, the flags and the
operations of that kind of file. fork copies a table of descriptors (`Files`), and CLONE_FILES
shares it. Neither refers to a descriptor of the host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_TYPE,
    O_ACCMODE,
    O_CLOEXEC,
    O_PATH,
    O_RDONLY,
    O_WRONLY,
    PROT_WRITE,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify, leases, locks, seals, sigio
from shstk.tracer.kernel.fs.inode import Directory, Inode, Regular
from shstk.tracer.kernel.fs.sigio import Owner
from shstk.tracer.kernel.mm.vma import MappedFile
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 2, 4, 8, 0x10, 0x20
POLLRDNORM, POLLWRNORM, POLLRDHUP = 0x40, 0x100, 0x2000
READABLE: Final = POLLIN | POLLRDNORM
WRITABLE: Final = POLLOUT | POLLWRNORM

ANY: Final = 0xFFFF  # of a wake without a key: it may be any of them

POLL_KEY: Final = "poll"  # every poll and select sleeps on it
INT_MAX: Final = 2**31 - 1


class OpenFile:
    """An open file description; the base class of every kind of file.

    A read is `peek`, a copy to the guest, then `advance`, so that a bad address loses no data.
    `peek` and `write` return None where they would block.
    """

    recorded = True  # whether reads write kernel_memory rows
    ignores_data = False  # a write does not read its bytes
    pollable = True  # file_can_poll(): there is a f_op->poll
    positioned = False  # FMODE_PREAD: pread and pwrite work
    reads_nothing = False  # a read of 0 bytes is checked like any other
    nowait = True  # FMODE_NOWAIT: RWF_NOWAIT is known
    splices_out = True  # f_op->splice_read, splice_write
    splices_in = True

    def __init__(self, inode: Inode, flags: int, path: str) -> None:
        self.inode = inode
        self.flags = flags
        self.path = path
        self.pos = 0
        self.refs = 0  # descriptors, and messages in flight that carry it
        self.created = False  # FMODE_CREATED: the open that returned it created the file
        self.owner: Owner | None = None  # F_SETOWN: whom its signals are sent to
        self.signal = 0  # F_SETSIG: which; 0: SIGIO

    @property
    def readable(self) -> bool:
        return self.flags & O_ACCMODE != O_WRONLY and not self.flags & O_PATH

    @property
    def writable(self) -> bool:
        return self.flags & O_ACCMODE != O_RDONLY and not self.flags & O_PATH

    @property
    def can_read(self) -> bool:
        """FMODE_CAN_READ: this kind of file can be read."""
        return type(self).peek is not OpenFile.peek

    @property
    def can_write(self) -> bool:
        return type(self).write is not OpenFile.write

    @property
    def seekable(self) -> bool:
        """FMODE_LSEEK."""
        return type(self).seek is not OpenFile.seek

    @property
    def key(self) -> Hashable:
        """The wait queue of the file."""
        return ("file", self.inode.ino)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        raise Errno("EINVAL")

    def advance(self, k: Kernel, n: int) -> None:
        self.pos += n

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        raise Errno("EINVAL")

    def admit(self, k: Kernel, t: Task, n: int) -> None:
        """Raise what refuses a write of n bytes before they are read from the caller's memory."""

    def unbroken(self, n: int) -> int:
        """The number of bytes transferred if a fault in user memory stops a copy after n bytes.

        A file transfers all n; a pipe or a socket transfers whole buffers only."""
        return n

    def peek_at(self, k: Kernel, t: Task, n: int, offset: int) -> bytes:
        raise Errno("ESPIPE")

    def write_at(self, k: Kernel, t: Task, data: bytes, offset: int) -> int:
        raise Errno("ESPIPE")

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        raise Errno("ESPIPE")

    def ready(self, k: Kernel) -> int:
        """The POLL* bits that are set now."""
        return READABLE | WRITABLE

    def deadline(self, k: Kernel, t: Task, writes: bool = False) -> int | None:
        """When a blocking read (or write) gives up, in ns; None: never."""
        return None

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        raise Errno("ENOTTY")

    def details(self, k: Kernel) -> str:
        """What /proc/PID/fdinfo says beside pos, flags, mnt_id and ino."""
        return ""

    def mapped_inode(self) -> Regular | None:
        """What mmap(2) maps; None: zeros of any length."""
        raise Errno("ENODEV")

    def flushed(self, k: Kernel) -> None:
        """Called when k.current closes a descriptor of it (f_op->flush)."""

    def released(self, k: Kernel) -> None:
        """Called when the last reference is dropped (f_op->release)."""

    def put(self, k: Kernel) -> None:
        """fput: drop the reference of a descriptor or of a message that carries the file.

        A socket is released with the messages that it still holds, and with the files in them. As
        in the kernel, those wait for their turn (task_work), so that the stack does not grow.
        """
        self.refs -= 1
        if self.refs:
            return
        waiting = _RELEASED.of(k).files
        waiting.append(self)
        if waiting[0] is self:
            while waiting:
                waiting[0].last_put(k)
                waiting.popleft()

    def last_put(self, k: Kernel) -> None:
        sigio.closed(k, self)
        leases.closed(k, self)
        locks.release(k, self.inode, self)
        fsnotify.closed(k, self)
        for interest in [i for i in self.inode.interests if i.file is self]:
            interest.epoll.remove(interest)
        self.released(k)

    def notify(self, k: Kernel, events: int = ANY) -> None:
        """Wake the waiters: readiness has changed. events: as in `wake`."""
        if events:
            sigio.signal_owners(k, self)
        wake(k, self.inode, events)


@dataclass
class _Released:
    """Files without references, the first of which is being released."""

    files: deque[OpenFile] = field(default_factory=deque)


_RELEASED: Final = Slot(_Released)


def wake(k: Kernel, inode: Inode, events: int = ANY) -> None:
    """events: the POLL* bits that the kernel's wake names. An edge-triggered or exclusive epoll
    depends on it; all others look themselves."""
    k.wake_key(("file", inode.ino))
    k.wake_key(POLL_KEY)
    for interest in list(inode.interests):
        if interest.tell(k, events):
            break


class Files:
    """A table of descriptors, shared by `users` tasks."""

    def __init__(self, slots: dict[int, OpenFile]) -> None:
        self.slots: dict[int, OpenFile] = {}
        self.cloexec: set[int] = set()
        self.users = 1
        self._next = 0  # next_fd: below it, none is free
        for fd, file in slots.items():
            self._set(fd, file)

    def share(self) -> Files:
        self.users += 1
        return self

    def copy(self) -> Files:
        new = Files(self.slots)
        new.cloexec = set(self.cloexec)
        return new

    def drop(self, k: Kernel) -> None:
        """Drop one task's reference; the last one closes every descriptor."""
        self.users -= 1
        if self.users == 0:
            for fd in sorted(self.slots):
                self.close(k, fd)

    def close_on_exec(self, k: Kernel) -> None:
        for fd in sorted(self.cloexec):
            self.close(k, fd)

    def get(self, fd: int, path_only: bool = False) -> OpenFile:
        """path_only: accept a descriptor opened with O_PATH. Errno EBADF."""
        file = self.slots.get(fd & 0xFFFF_FFFF)
        if file is None or (file.flags & O_PATH and not path_only):
            raise Errno("EBADF")
        return file

    def unused(self, t: Task, lowest: int = 0, count: int = 1) -> int:
        """The lowest free descriptor >= `lowest`. Errno EMFILE: there are not `count` of them."""
        limit = min(t.rlimit("NOFILE"), INT_MAX)
        free = (fd for fd in range(max(lowest, self._next), limit) if fd not in self.slots)
        found = list(islice(free, count))
        if len(found) < count:
            raise Errno("EMFILE")
        if lowest <= self._next:
            self._next = found[0]
        return found[0]

    def add(self, t: Task, file: OpenFile, cloexec: bool, lowest: int = 0) -> int:
        """Install `file` at the lowest free descriptor >= `lowest`. Errno EMFILE."""
        fd = self.unused(t, lowest)
        self._set(fd, file)
        if cloexec:
            self.cloexec.add(fd)
        return fd

    def replace(self, k: Kernel, fd: int, file: OpenFile, cloexec: bool) -> None:
        """dup2: make `fd` refer to `file`."""
        file.refs += 1
        if fd in self.slots:
            self.close(k, fd)
        file.refs -= 1
        self._set(fd, file)
        if cloexec:
            self.cloexec.add(fd)

    def close(self, k: Kernel, fd: int) -> None:
        file = self.slots.pop(fd & 0xFFFF_FFFF, None)
        if file is None:
            raise Errno("EBADF")
        self._next = min(self._next, fd & 0xFFFF_FFFF)
        self.cloexec.discard(fd & 0xFFFF_FFFF)
        locks.release(k, file.inode, self)
        file.flushed(k)
        file.put(k)

    def _set(self, fd: int, file: OpenFile) -> None:
        self.slots[fd] = file
        file.refs += 1


@dataclass(eq=False)
class Fs:
    """What CLONE_FS shares."""

    cwd: Directory
    umask: int = 0o022

    def copy(self) -> Fs:
        return Fs(self.cwd, self.umask)


def mappable(k: Kernel, file: OpenFile, prot: int, flags: int) -> MappedFile | None:
    """The file for mmap(2), recorded as an input if its contents are the host's; None for
    /dev/zero.

    Errno EACCES, ENODEV, EINVAL (MAP_GROWSDOWN), EPERM (a seal).
    """
    writes_back = flags & MAP_TYPE != MAP_PRIVATE and prot & PROT_WRITE
    if not file.readable or (writes_back and not file.writable):
        raise Errno("EACCES")
    inode = file.mapped_inode()
    if flags & MAP_GROWSDOWN:
        raise Errno("EINVAL")
    if inode is None:
        return None
    sealed = bool(inode.seals & seals.WRITE_SEALS)
    if writes_back and sealed:
        raise Errno("EPERM")
    inode.see(k)
    if writes_back:
        inode.own(k)
    return MappedFile(file.path, inode, inode.input, file.writable and not sealed)


def sys_close(k: Kernel, t: Task, a: Args) -> int:
    t.files.close(k, a[0])
    return 0


def sys_close_range(k: Kernel, t: Task, a: Args) -> int:
    first, last, flags = (v & 0xFFFF_FFFF for v in a[:3])
    unshare, cloexec = 2, 4  # CLOSE_RANGE_*
    if flags & ~(unshare | cloexec) or first > last:
        raise Errno("EINVAL")
    if flags & unshare and t.files.users > 1:
        shared, t.files = t.files, t.files.copy()
        shared.drop(k)
    for fd in sorted(t.files.slots):
        if not first <= fd <= last:
            continue
        if flags & cloexec:
            t.files.cloexec.add(fd)
        else:
            t.files.close(k, fd)
    return 0


def sys_dup(k: Kernel, t: Task, a: Args) -> int:
    return t.files.add(t, t.files.get(a[0], path_only=True), cloexec=False)


def sys_dup3(k: Kernel, t: Task, a: Args) -> int:
    old, new, flags = (v & 0xFFFF_FFFF for v in a[:3])
    if flags & ~O_CLOEXEC or old == new:
        raise Errno("EINVAL")
    file = t.files.get(old, path_only=True)
    if new >= min(t.rlimit("NOFILE"), INT_MAX):
        raise Errno("EBADF")
    t.files.replace(k, new, file, bool(flags & O_CLOEXEC))
    return new


CALLS: Final = (
    Call("dup", sys_dup),
    Call("dup3", sys_dup3),
    Call("close", sys_close),
    Call("close_range", sys_close_range),
)
