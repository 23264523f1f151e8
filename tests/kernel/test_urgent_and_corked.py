"""MSG_OOB and MSG_MORE on streams (net/ipv4/tcp.c, net/unix/af_unix.c)."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from direct import Direct

from shstk.schemas.uapi import (
    EPOLL_CTL_ADD,
    F_SETOWN,
    FIONREAD,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    SIOCATMARK,
    SOL_SOCKET,
)
from shstk.tracer.kernel.signal.signals import pending_set
from shstk.tracer.kernel.task import SigAction
from shstk.tracer.kernel.time.timers import TIMERS

SO_OOBINLINE = 10
TCP, TCP_NODELAY, TCP_CORK = 6, 1, 3
POLLIN, POLLPRI = 1, 2
MS = 1_000_000


@pytest.fixture
def d() -> Direct:
    return Direct()


def tcp(d: Direct) -> tuple[int, int]:
    """A client and the end that its server accepted."""
    name = struct.pack("<H", 2) + struct.pack(">H4s8x", 7000, bytes((127, 0, 0, 1)))
    server, client = d.call("socket", 2, 1, 0), d.call("socket", 2, 1, 0)
    assert d.call("bind", server, name, 16) == d.call("listen", server, 1) == 0
    assert d.call("connect", client, name, 16) == 0
    return client, d.call("accept", server, 0, 0)


def unix(d: Direct) -> tuple[int, int]:
    fds = d.room(8)
    assert d.call("socketpair", 1, 1, 0, fds) == 0
    one, other = struct.unpack("<2i", d.get(fds, 8))
    return one, other


def send(d: Direct, fd: int, data: bytes, flags: int = 0) -> Any:
    return d.call("sendto", fd, data, len(data), flags, 0, 0)


def receive(d: Direct, fd: int, size: int = 200, flags: int = 0) -> Any:
    room = d.room(size)
    n = d.call("recvfrom", fd, room, size, flags | MSG_DONTWAIT, 0, 0)
    return d.get(room, n) if isinstance(n, int) else n


def word(d: Direct, fd: int, request: int) -> int:
    at = d.room(4)
    assert d.call("ioctl", fd, request, at) == 0
    (value,) = struct.unpack("<i", d.get(at, 4))
    return int(value)


def polled(d: Direct, fd: int) -> int:
    at = d.put(struct.pack("<iHH", fd, POLLIN | POLLPRI, 0))
    d.call("ppoll", at, 1, bytes(16), 0, 8)
    (_, _, answer) = struct.unpack("<iHH", d.get(at, 8))
    return int(answer)


def option(d: Direct, fd: int, level: int, name: int, value: int) -> None:
    assert d.call("setsockopt", fd, level, name, struct.pack("<i", value), 4) == 0


@pytest.mark.parametrize("make", [tcp, unix])
def test_the_last_byte_is_urgent(d: Direct, make: Any) -> None:
    """A read ends at the mark, and the next one leaves the byte out."""
    one, other = make(d)
    assert send(d, one, b"abX", MSG_OOB) == 3
    assert send(d, one, b"cd") == 2
    assert polled(d, other) == POLLIN | POLLPRI
    assert (word(d, other, FIONREAD), word(d, other, SIOCATMARK)) == (2, 0)
    assert receive(d, other) == b"ab"
    assert word(d, other, SIOCATMARK) == 1
    assert receive(d, other, 1, MSG_OOB | MSG_PEEK) == b"X"
    assert receive(d, other, 1, MSG_OOB) == b"X"
    assert receive(d, other, 1, MSG_OOB) == "EINVAL"
    assert polled(d, other) == POLLIN
    assert receive(d, other) == b"cd"
    assert word(d, other, SIOCATMARK) == 0


@pytest.mark.parametrize("make", [tcp, unix])
def test_an_urgent_byte_in_line(d: Direct, make: Any) -> None:
    one, other = make(d)
    option(d, other, SOL_SOCKET, SO_OOBINLINE, 1)
    assert send(d, one, b"abX", MSG_OOB) == 3
    assert send(d, one, b"cd") == 2
    assert receive(d, other, 1, MSG_OOB) == "EINVAL"
    assert receive(d, other) == b"ab"
    assert receive(d, other) == b"Xcd"


def test_what_is_passed_is_no_longer_urgent(d: Direct) -> None:
    one, other = tcp(d)
    assert send(d, one, b"X", MSG_OOB) == 1
    assert polled(d, other) == POLLPRI  # a read would wait
    assert send(d, one, b"ab") == 2
    assert receive(d, other) == b"ab"
    assert receive(d, other, 1, MSG_OOB) == "EINVAL"


def test_a_new_urgent_byte_makes_the_old_one_ordinary(d: Direct) -> None:
    one, other = tcp(d)
    assert send(d, one, b"X", MSG_OOB) == send(d, one, b"Y", MSG_OOB) == 1
    assert receive(d, other) == b"X"
    assert receive(d, other, 1, MSG_OOB) == b"Y"


def test_an_urgent_byte_signals_the_owner(d: Direct) -> None:
    one, other = tcp(d)
    d.t.process.sighand.actions[23] = SigAction(handler=0x10000)
    assert send(d, one, b"X", MSG_OOB) == 1
    assert not pending_set((d.t.process,))
    assert d.call("fcntl", other, F_SETOWN, d.t.pid) == 0
    assert send(d, one, b"Y", MSG_OOB) == 1
    assert pending_set((d.t.process,)) == 1 << 22  # SIGURG


def test_an_epoll_is_told_of_urgent_data(d: Direct) -> None:
    one, other = tcp(d)
    epoll, room = d.call("epoll_create1", 0), d.room(16)
    assert d.call("epoll_ctl", epoll, EPOLL_CTL_ADD, other, struct.pack("<I4xQ", 2, 7)) == 0
    assert d.call("epoll_pwait", epoll, room, 1, 0, 0, 8) == 0
    assert send(d, one, b"X", MSG_OOB) == 1
    assert d.call("epoll_pwait", epoll, room, 1, 0, 0, 8) == 1
    assert struct.unpack("<I4xQ", d.get(room, 16)) == (POLLPRI, 7)


def test_more_holds_back(d: Direct) -> None:
    one, other = tcp(d)
    assert send(d, one, b"one ", MSG_MORE) == send(d, one, b"two ", MSG_MORE) == 4
    assert receive(d, other) == "EAGAIN"
    assert send(d, one, b"three") == 5
    assert receive(d, other) == b"one two three"


def test_whole_segments_are_not_held_back(d: Direct) -> None:
    one, other = tcp(d)
    option(d, one, TCP, TCP_CORK, 1)
    for _ in range(3):
        assert d.write(one, bytes(30000)) == 30000
    assert word(d, other, FIONREAD) == 65483
    option(d, one, TCP, TCP_CORK, 0)
    assert word(d, other, FIONREAD) == 90000


@pytest.mark.parametrize("pull", ["nodelay", "shutdown", "close", "time"])
def test_what_pulls_the_cork(d: Direct, pull: str) -> None:
    one, other = tcp(d)
    assert send(d, one, b"held", MSG_MORE) == 4
    if pull == "nodelay":
        option(d, one, TCP, TCP_NODELAY, 1)
    elif pull == "shutdown":
        assert d.call("shutdown", one, 1) == 0
    elif pull == "close":
        assert d.call("close", one) == 0
    else:
        d.idle(199 * MS)
        TIMERS.of(d.k).fire(d.k)
        assert receive(d, other) == "EAGAIN"
        d.idle(1 * MS)
        TIMERS.of(d.k).fire(d.k)
    assert receive(d, other) == b"held"
    if pull in ("shutdown", "close"):
        assert receive(d, other) == b""
