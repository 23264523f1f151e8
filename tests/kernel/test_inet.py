"""TCP and UDP within the machine."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

import pytest
from direct import Direct

from shstk.tracer.kernel.call import Wait

STREAM, DGRAM, RAW, NONBLOCK = 1, 2, 3, 0o4000
AF_INET, AF_INET6 = 2, 10
SOL_SOCKET, SO_ERROR, SO_RCVTIMEO, SO_DOMAIN, SO_PROTOCOL = 1, 4, 20, 39, 38
POLLIN, POLLOUT, POLLERR, POLLHUP, POLLRDHUP = 1, 4, 8, 0x10, 0x2000


@pytest.fixture
def d() -> Direct:
    return Direct()


def address(host: str, port: int) -> bytes:
    ip = ip_address(host)
    if ip.version == 4:
        return struct.pack("<H", AF_INET) + struct.pack(">H4s8x", port, ip.packed)
    return struct.pack("<H", AF_INET6) + struct.pack(">HI16s4x", port, 0, ip.packed)


def named(d: Direct, call: str, fd: int, host: str, port: int) -> Any:
    name = address(host, port)
    return d.call(call, fd, name, len(name))


def sock(d: Direct, family: int = AF_INET, kind: int = STREAM) -> int:
    fd = d.call("socket", family, kind, 0)
    assert isinstance(fd, int)
    return fd


def server(d: Direct, host: str = "127.0.0.1", port: int = 8080) -> int:
    fd = sock(d, AF_INET6 if ":" in host else AF_INET)
    assert named(d, "bind", fd, host, port) == 0
    assert d.call("listen", fd, 5) == 0
    return fd


def name_of(d: Direct, call: str, fd: int) -> tuple[str, int]:
    room, length = d.room(28), d.put(struct.pack("<I", 28))
    assert d.call(call, fd, room, length) == 0
    data = d.get(room, struct.unpack("<I", d.get(length, 4))[0])
    port = struct.unpack_from(">H", data, 2)[0]
    raw = data[4:8] if len(data) == 16 else data[8:24]
    return str(ip_address(raw)), port


def read(d: Direct, fd: int, n: int = 50) -> Any:
    room = d.room(n)
    got = d.call("read", fd, room, n)
    return d.get(room, got) if isinstance(got, int) else got


def option(d: Direct, fd: int, level: int, which: int) -> int:
    room, length = d.room(4), d.put(struct.pack("<I", 4))
    assert d.call("getsockopt", fd, level, which, room, length) == 0
    return int(struct.unpack("<i", d.get(room, 4))[0])


def ready(d: Direct, fd: int) -> int:
    addr = d.put(struct.pack("<iHH", fd, 0x7FFF, 0))
    d.call("ppoll", addr, 1, d.room(16), 0, 8)
    return int(struct.unpack("<iHH", d.get(addr, 8))[2]) & 0x203F


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "127.9.9.9"])
def test_a_connection(d: Direct, host: str) -> None:
    listener, client = server(d, host), sock(d)
    assert named(d, "connect", client, host, 8080) == 0
    end = d.call("accept", listener, 0, 0)
    assert name_of(d, "getpeername", end) == name_of(d, "getsockname", client)
    assert name_of(d, "getpeername", client)[1] == 8080
    assert d.call("write", client, b"hello", 5) == 5
    assert read(d, end) == b"hello"
    assert d.call("shutdown", client, 1) == 0
    assert read(d, end) == b""
    assert ready(d, end) == POLLIN | POLLOUT | POLLRDHUP
    assert d.call("write", end, b"late", 4) == 4
    assert read(d, client) == b"late"
    assert d.call("close", end) == 0
    assert read(d, client) == b""


def test_ipv4_reaches_an_ipv6_wildcard_unless_it_is_for_ipv6_only(d: Direct) -> None:
    server(d, "::", 8081)
    four, six = sock(d), sock(d, AF_INET6)
    assert named(d, "connect", four, "127.0.0.1", 8081) == 0
    assert named(d, "connect", six, "::1", 8081) == 0
    only = sock(d, AF_INET6)
    assert d.call("setsockopt", only, 41, 26, struct.pack("<i", 1), 4) == 0
    assert named(d, "bind", only, "::", 8082) == 0
    assert d.call("listen", only, 1) == 0
    assert named(d, "connect", sock(d), "127.0.0.1", 8082) == "ECONNREFUSED"
    server(d, "0.0.0.0", 8082)
    assert named(d, "bind", sock(d), "0.0.0.0", 8081) == "EADDRINUSE"


def test_names_that_are_taken_or_elsewhere(d: Direct) -> None:
    server(d, "127.0.0.1", 8080)
    assert named(d, "bind", sock(d), "127.0.0.1", 8080) == "EADDRINUSE"
    assert named(d, "bind", sock(d), "0.0.0.0", 8080) == "EADDRINUSE"
    assert named(d, "bind", sock(d), "127.0.0.2", 8080) == 0
    server(d, "::1", 8083)
    server(d, "0.0.0.0", 8083)
    assert named(d, "bind", sock(d, kind=DGRAM), "127.0.0.1", 8080) == 0
    assert named(d, "bind", sock(d), "10.0.0.1", 8080) == "EADDRNOTAVAIL"
    assert named(d, "connect", sock(d), "10.0.0.1", 8080) == "ENETUNREACH"
    assert named(d, "connect", sock(d), "127.0.0.1", 9999) == "ECONNREFUSED"
    assert named(d, "bind", sock(d), "::1", 8080) == "EAFNOSUPPORT"
    assert d.call("socket", AF_INET, RAW, 1) == "EPERM"
    assert d.call("socket", AF_INET, STREAM, 17) == "EPROTONOSUPPORT"
    assert named(d, "connect", (twice := sock(d)), "127.0.0.1", 8080) == 0
    assert named(d, "connect", twice, "127.0.0.1", 8080) == "EISCONN"


def test_connecting_without_waiting(d: Direct) -> None:
    listener = server(d)
    client = d.call("socket", AF_INET, STREAM | NONBLOCK, 0)
    assert named(d, "connect", client, "127.0.0.1", 8080) == "EINPROGRESS"
    assert ready(d, client) == POLLOUT
    assert option(d, client, SOL_SOCKET, SO_ERROR) == 0
    assert ready(d, listener) == POLLIN
    refused = d.call("socket", AF_INET, STREAM | NONBLOCK, 0)
    assert named(d, "connect", refused, "127.0.0.1", 9999) == "EINPROGRESS"
    assert ready(d, refused) & POLLERR
    assert option(d, refused, SOL_SOCKET, SO_ERROR) == 111


def test_datagrams(d: Direct) -> None:
    one, other = sock(d, kind=DGRAM), sock(d, kind=DGRAM)
    assert named(d, "bind", one, "0.0.0.0", 5353) == 0
    to = address("127.0.0.1", 5353)
    assert d.call("sendto", other, b"ask", 3, 0, to, len(to)) == 3
    room, name, length = d.room(9), d.room(16), d.put(struct.pack("<I", 16))
    assert d.call("recvfrom", one, room, 9, 0, name, length) == 3
    back = d.get(name, 16)
    assert struct.unpack_from(">H", back, 2)[0] == name_of(d, "getsockname", other)[1]
    assert d.call("sendto", one, b"", 0, 0, back, 16) == 0
    assert d.call("recvfrom", other, room, 9, 0, 0, 0) == 0
    assert d.call("write", one, b"x", 1) == "EDESTADDRREQ"
    nobody = address("127.0.0.1", 9009)
    assert d.call("sendto", other, b"x", 1, 0, nobody, 16) == 1
    assert named(d, "connect", other, "127.0.0.1", 9009) == 0
    assert d.call("write", other, b"x", 1) == 1
    assert d.call("write", other, b"x", 1) == "ECONNREFUSED"


def test_several_messages_a_call(d: Direct) -> None:
    one, other = sock(d, kind=DGRAM), sock(d, kind=DGRAM)
    assert named(d, "bind", one, "127.0.0.1", 5353) == 0
    assert named(d, "connect", other, "127.0.0.1", 5353) == 0

    def vector(size: int, count: int) -> tuple[int, int]:
        data = d.put(b"abcdefgh"[: size * count].ljust(size * count, b"."))
        parts = b""
        for i in range(count):
            iov = d.put(struct.pack("<QQ", data + i * size, size))
            parts += struct.pack("<QIIQQQQI4xI4x", 0, 0, 0, iov, 1, 0, 0, 0, 0)
        return d.put(parts), data

    heads, _ = vector(2, 3)
    assert d.call("sendmmsg", other, heads, 3, 0) == 3
    assert [struct.unpack("<I", d.get(heads + 64 * i + 56, 4))[0] for i in range(3)] == [2, 2, 2]
    heads, data = vector(4, 5)
    assert d.call("recvmmsg", one, heads, 5, 0x10000, 0) == 3  # MSG_WAITFORONE
    assert [d.get(data + 4 * i, 2) for i in range(3)] == [b"ab", b"cd", b"ef"]


def test_a_receive_that_gives_up(d: Direct) -> None:
    fd = sock(d, kind=DGRAM)
    assert named(d, "bind", fd, "127.0.0.1", 5353) == 0
    timeval = struct.pack("<qq", 0, 250_000)
    assert d.call("setsockopt", fd, SOL_SOCKET, SO_RCVTIMEO, timeval, 16) == 0
    wait = d.start("recvfrom", fd, d.room(8), 8, 0, 0, 0)
    assert isinstance(wait, Wait)
    assert wait.deadline_ns == d.k.now_ns() + 250_000_000
    d.idle(250_000_000)
    assert d.retry("deadline") == "EAGAIN"


def test_options(d: Direct) -> None:
    fd = sock(d)
    assert option(d, fd, SOL_SOCKET, SO_DOMAIN) == AF_INET
    assert option(d, fd, SOL_SOCKET, SO_PROTOCOL) == 6
    assert d.call("setsockopt", fd, 6, 1, struct.pack("<i", 1), 4) == 0  # TCP_NODELAY
    assert option(d, fd, 6, 1) == 1
    assert d.call("setsockopt", fd, 99, 1, struct.pack("<i", 1), 4) == "ENOPROTOOPT"
