"""epoll: a descriptor with a list of other descriptors to wait for."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas import uapi
from shstk.schemas.uapi import O_CLOEXEC, O_RDWR
from shstk.tracer.kernel.call import Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.eventfds import Anonymous, anonymous
from shstk.tracer.kernel.fs.files import ANY, POLLERR, POLLHUP, READABLE, OpenFile
from shstk.tracer.kernel.fs.inode import Inode
from shstk.tracer.kernel.fs.poll import interrupted, swap_mask, wait_until
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.time.clock import timeout_at

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_ONESHOT, _EDGE = 1 << 30, 1 << 31
_EXCLUSIVE: Final = 1 << 28
# EPOLLEXCLUSIVE_OK_BITS: IN, OUT, ERR, HUP, WAKEUP, ET and itself.
_WITH_EXCLUSIVE: Final = 0x1D | 1 << 29 | _EDGE | _EXCLUSIVE
_NESTS_MAX: Final = 4  # EP_MAX_NESTS
_PRIVATE: Final = _ONESHOT | _EDGE | 3 << 28  # EPOLLWAKEUP, EXCLUSIVE: not readiness
_EVENT: Final = struct.Struct("<I4xQ")  # struct epoll_event: events, data


@dataclass(eq=False)
class Interest:
    """An item of an epoll. listed: on its ready list: it was just added, or an event that it waits
    for has happened since it was reported. Only edge-triggered and exclusive items need that; all
    others are asked for their readiness."""

    epoll: Epoll
    fd: int
    file: OpenFile
    events: int
    data: int
    listed: bool = True

    @property
    def wanted(self) -> int:
        """The POLL* bits to report; 0 after a one-shot."""
        bits = self.events & ~_PRIVATE
        return bits | POLLERR | POLLHUP if bits else 0

    @property
    def exclusive(self) -> bool:
        return bool(self.events & _EXCLUSIVE)

    def tell(self, k: Kernel, events: int) -> bool:
        """ep_poll_callback(): a wake of its file with POLL* bits. Whether the wake ends here: an
        exclusive item takes it for a task that waits."""
        if not events & self.wanted:
            return False
        taken = self.exclusive and events != ANY and bool(k.waiting(self.epoll.key))
        self.listed = True
        self.epoll.notify(k, READABLE)
        return taken


class Epoll(Anonymous):
    def __init__(self, inode: Inode, flags: int) -> None:
        super().__init__(inode, flags, "anon_inode:[eventpoll]")
        self.interests: dict[tuple[int, OpenFile], Interest] = {}

    def add(self, interest: Interest) -> None:
        """Exclusive items wait at the end of the file's queue."""
        self.interests[interest.fd, interest.file] = interest
        queue = interest.file.inode.interests
        queue.insert(len(queue) if interest.exclusive else 0, interest)

    def remove(self, interest: Interest) -> None:
        del self.interests[interest.fd, interest.file]
        interest.file.inode.interests.remove(interest)

    def inner(self) -> list[Epoll]:
        return [i.file for i in self.interests.values() if isinstance(i.file, Epoll)]

    def outer(self) -> list[Epoll]:
        return [i.epoll for i in self.inode.interests]

    def released(self, k: Kernel) -> None:
        for interest in list(self.interests.values()):
            self.remove(interest)

    def collect(self, k: Kernel, most: int, take: bool = True) -> list[tuple[int, int]]:
        """(events, data) of the ready items; a reported one moves to the end of the list.
        take: consume edges and one-shots."""
        out: list[tuple[int, int]] = []
        for key, interest in list(self.interests.items()):
            if len(out) == most:
                break
            if interest.events & (_EDGE | _EXCLUSIVE) and not interest.listed:
                continue
            events = interest.file.ready(k) & interest.wanted
            if not events:
                interest.listed = False
                continue
            out.append((events, interest.data))
            if take:
                interest.listed = not interest.events & _EDGE
                if interest.events & _ONESHOT:
                    interest.events &= _PRIVATE
                self.interests[key] = self.interests.pop(key)
        return out

    def ready(self, k: Kernel) -> int:
        return READABLE if self.collect(k, 1, take=False) else 0

    def details(self, k: Kernel) -> str:
        return "".join(
            f"tfd: {fd:8} events: {i.events:8x} data: {i.data:16x} "
            f" pos:{i.file.pos} ino:{i.file.inode.ino:x} sdev:{i.file.inode.dev:x}\n"
            for (fd, _), i in self.interests.items()
        )


def sys_epoll_create1(k: Kernel, t: Task, a: Args) -> int:
    if a[0] & 0xFFFF_FFFF & ~O_CLOEXEC:
        raise Errno("EINVAL")
    return t.files.add(t, Epoll(anonymous(k), O_RDWR), bool(a[0] & O_CLOEXEC))


def _epoll(t: Task, fd: int) -> Epoll:
    file = t.files.get(fd)
    if not isinstance(file, Epoll):
        raise Errno("EINVAL")
    return file


def _nested_too_deep(outer: Epoll, inner: Epoll) -> bool:
    """ep_loop_check(): whether adding `inner` creates a cycle or nests deeper than EP_MAX_NESTS."""
    below, above = _levels(inner, Epoll.inner), _levels(outer, Epoll.outer)
    looped = any(outer in level for level in below)
    return looped or len(below) + len(above) - 1 > _NESTS_MAX


def _levels(start: Epoll, next_level: Callable[[Epoll], Iterable[Epoll]]) -> list[set[Epoll]]:
    """The epolls reachable from `start`, by distance; itself first."""
    levels = [{start}]
    while levels[-1] and len(levels) <= _NESTS_MAX + 1:
        levels.append({found for epoll in levels[-1] for found in next_level(epoll)})
    return levels if levels[-1] else levels[:-1]


def sys_epoll_ctl(k: Kernel, t: Task, a: Args) -> int:
    command, fd = a[1] & 0xFFFF_FFFF, a[2] & 0xFFFF_FFFF
    event = (0, 0)
    if command != uapi.EPOLL_CTL_DEL:
        event = _EVENT.unpack(usermem.get(k, t, a[3], _EVENT.size))
    t.files.get(a[0])
    file = t.files.get(fd)
    if not file.pollable:
        raise Errno("EPERM")
    epoll = _epoll(t, a[0])
    if file is epoll:
        raise Errno("EINVAL")
    exclusive = event[0] & _EXCLUSIVE
    if exclusive and (
        command == uapi.EPOLL_CTL_MOD or isinstance(file, Epoll) or event[0] & ~_WITH_EXCLUSIVE
    ):
        raise Errno("EINVAL")
    known = epoll.interests.get((fd, file))
    if command == uapi.EPOLL_CTL_ADD:
        if isinstance(file, Epoll) and _nested_too_deep(epoll, file):
            raise Errno("ELOOP")
        if known is not None:
            raise Errno("EEXIST")
        epoll.add(Interest(epoll, fd, file, *event))
        epoll.notify(k, READABLE)
        return 0
    if command not in (uapi.EPOLL_CTL_DEL, uapi.EPOLL_CTL_MOD):
        raise Errno("EINVAL")
    if known is None:
        raise Errno("ENOENT")
    if command == uapi.EPOLL_CTL_DEL:
        epoll.remove(known)
        return 0
    if known.exclusive:
        raise Errno("EINVAL")
    known.events, known.data, known.listed = *event, True
    epoll.notify(k, READABLE)
    return 0


def _wait(k: Kernel, t: Task, a: Args, deadline: int | None) -> Outcome:
    """do_epoll_wait(), ep_check_params(). Events that can't be stored are not lost."""
    swap_mask(k, t, a[4], a[5])
    t.files.get(a[0])
    most = a[2] & 0xFFFF_FFFF
    if not 0 < most < 1 << 27:
        raise Errno("EINVAL")
    if not usermem.access_ok(a[1], most * _EVENT.size):
        raise Errno("EFAULT")
    epoll = _epoll(t, a[0])
    events = epoll.collect(k, most, take=False)
    if not events:
        if interrupted(t):
            raise Errno("EINTR")
        return wait_until(k, deadline, epoll.key) or 0
    usermem.put(k, t, a[1], b"".join(_EVENT.pack(*event) for event in events))
    epoll.collect(k, most)
    return len(events)


def sys_epoll_pwait(k: Kernel, t: Task, a: Args) -> Outcome:
    """a[3]: milliseconds; a negative timeout never expires."""
    assert t.blocked is not None
    timeout = a[3] & 0xFFFF_FFFF
    if t.blocked.woken is None:
        t.blocked.expires = None if timeout >> 31 else k.now_ns() + timeout * 1_000_000
    return _wait(k, t, a, t.blocked.expires)


def sys_epoll_pwait2(k: Kernel, t: Task, a: Args) -> Outcome:
    return _wait(k, t, a, timeout_at(k, t, a[3]))


CALLS: Final = (
    Call("epoll_create1", sys_epoll_create1),
    Call("epoll_ctl", sys_epoll_ctl),
    Call("epoll_pwait", sys_epoll_pwait),
    Call("epoll_pwait2", sys_epoll_pwait2),
)
