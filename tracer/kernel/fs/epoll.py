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
from shstk.tracer.kernel.fs.files import POLLERR, POLLHUP, READABLE, OpenFile
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


@dataclass
class Interest:
    file: OpenFile
    events: int
    data: int
    seen: int = -1  # inode.changes at the last report; used by EPOLLET


class Epoll(Anonymous):
    def __init__(self, inode: Inode, flags: int) -> None:
        super().__init__(inode, flags, "anon_inode:[eventpoll]")
        self.interests: dict[int, Interest] = {}
        self.outer: list[Epoll] = []  # the epolls that watch this one, once per descriptor

    def add(self, fd: int, interest: Interest) -> None:
        self.interests[fd] = interest
        if isinstance(interest.file, Epoll):
            interest.file.outer.append(self)

    def remove(self, fd: int) -> None:
        file = self.interests.pop(fd).file
        if isinstance(file, Epoll):
            file.outer.remove(self)

    def inner(self) -> list[Epoll]:
        return [i.file for i in self.interests.values() if isinstance(i.file, Epoll)]

    def released(self, k: Kernel) -> None:
        for fd in list(self.interests):
            self.remove(fd)

    def collect(self, k: Kernel, most: int, take: bool = True) -> list[tuple[int, int]]:
        """(events, data) of the ready interests; a reported one moves to the end of the list.
        take: consume edges and one-shots."""
        for fd in [fd for fd, i in self.interests.items() if not i.file.refs]:
            self.remove(fd)
        out: list[tuple[int, int]] = []
        for fd, interest in list(self.interests.items()):
            if len(out) == most:
                break
            always = POLLERR | POLLHUP if interest.events & ~_PRIVATE else 0
            events = interest.file.ready(k) & (interest.events & ~_PRIVATE | always)
            changes = interest.file.inode.changes
            if not events or (interest.events & _EDGE and interest.seen == changes):
                continue
            out.append((events, interest.data))
            if take:
                interest.seen = changes
                if interest.events & _ONESHOT:
                    interest.events &= _PRIVATE
                self.interests[fd] = self.interests.pop(fd)
        return out

    def ready(self, k: Kernel) -> int:
        return READABLE if self.collect(k, 1, take=False) else 0

    def details(self, k: Kernel) -> str:
        return "".join(
            f"tfd: {fd:8} events: {i.events:8x} data: {i.data:16x} "
            f" pos:{i.file.pos} ino:{i.file.inode.ino:x} sdev:{i.file.inode.dev:x}\n"
            for fd, i in self.interests.items()
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
    below, above = _levels(inner, Epoll.inner), _levels(outer, lambda epoll: epoll.outer)
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
    known = fd in epoll.interests and epoll.interests[fd].file is file
    match command:
        case uapi.EPOLL_CTL_ADD if known:
            raise Errno("EEXIST")
        case uapi.EPOLL_CTL_DEL | uapi.EPOLL_CTL_MOD if not known:
            raise Errno("ENOENT")
        case uapi.EPOLL_CTL_ADD if isinstance(file, Epoll) and _nested_too_deep(epoll, file):
            raise Errno("ELOOP")
        case uapi.EPOLL_CTL_MOD if epoll.interests[fd].events & _EXCLUSIVE:
            raise Errno("EINVAL")
        case uapi.EPOLL_CTL_ADD | uapi.EPOLL_CTL_MOD:
            if fd in epoll.interests:
                epoll.remove(fd)
            epoll.add(fd, Interest(file, *event))
            epoll.notify(k)
        case uapi.EPOLL_CTL_DEL:
            epoll.remove(fd)
        case _:
            raise Errno("EINVAL")
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
        return wait_until(k, deadline) or 0
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
    Call("epoll_ctl", sys_epoll_ctl, why="EPOLLEXCLUSIVE wakes every waiter"),
    Call("epoll_pwait", sys_epoll_pwait),
    Call("epoll_pwait2", sys_epoll_pwait2),
)
