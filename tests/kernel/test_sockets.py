"""AF_UNIX sockets: streams, datagrams, packets; names, descriptor passing, closed ends."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.call import RESTART, Wait

STREAM, DGRAM, SEQPACKET, NONBLOCK = 1, 2, 5, 0o4000
PEEK, TRUNC, DONTWAIT, WAITALL, NOSIGNAL = 2, 0x20, 0x40, 0x100, 0x4000
POLLIN, POLLOUT, POLLERR, POLLHUP, POLLRDHUP = 1, 4, 8, 0x10, 0x2000


@pytest.fixture
def d() -> Direct:
    return Direct()


def pair(d: Direct, kind: int = STREAM) -> tuple[int, int]:
    addr = d.room(8)
    assert d.call("socketpair", 1, kind, 0, addr) == 0
    one, other = struct.unpack("<ii", d.get(addr, 8))
    return one, other


def address(path: bytes) -> bytes:
    return b"\1\0" + path


def named(d: Direct, call: str, fd: int, path: bytes) -> Any:
    return d.call(call, fd, address(path), len(path) + 2)


def server(d: Direct, path: bytes = b"/tmp/s\0", kind: int = STREAM, backlog: int = 5) -> int:
    fd = d.call("socket", 1, kind, 0)
    assert isinstance(fd, int)
    assert named(d, "bind", fd, path) == 0
    if kind != DGRAM:
        assert d.call("listen", fd, backlog) == 0
    return fd


def client(d: Direct, path: bytes = b"/tmp/s\0", kind: int = STREAM, flags: int = 0) -> Any:
    fd = d.call("socket", 1, kind | flags, 0)
    answer = named(d, "connect", fd, path)
    return fd if answer == 0 else answer


def message(d: Direct, data: int, size: int, control: bytes = b"", room: int = 0) -> int:
    iov = d.put(struct.pack("<QQ", data, size))
    at = d.put(control) if control else d.room(room or 1)
    length = len(control) or room
    return d.put(struct.pack("<QIIQQQQI4x", 0, 0, 0, iov, 1, at if length else 0, length, 0))


def rights(*fds: int) -> bytes:
    body = struct.pack(f"<{len(fds)}i", *fds)
    return (struct.pack("<Qii", 16 + len(body), 1, 1) + body).ljust(16 + 8 * -(-len(body) // 8))


def recvmsg(d: Direct, fd: int, size: int, room: int, flags: int = 0) -> Any:
    """(bytes, control, msg_flags)."""
    data = d.room(size)
    head = message(d, data, size, room=room)
    n = d.call("recvmsg", fd, head, flags)
    if not isinstance(n, int):
        return n
    control_at, length, got = struct.unpack("<QQI", d.get(head + 32, 20))
    return d.get(data, min(n, size)), d.get(control_at, length) if length else b"", got


def ready(d: Direct, fd: int) -> int:
    addr = d.put(struct.pack("<iHH", fd, 0x7FFF, 0))
    d.call("ppoll", addr, 1, d.room(16), 0, 8)
    return int(struct.unpack("<iHH", d.get(addr, 8))[2]) & 0x203F


def test_a_stream_glues_and_splits(d: Direct) -> None:
    one, other = pair(d)
    d.write(one, b"ab")
    d.write(one, b"cd")
    assert d.read(other, 3) == b"abc"
    assert d.read(other) == b"d"
    assert isinstance(d.start("read", other, d.room(4), 4), Wait)
    assert d.retry("signal") is RESTART


@pytest.mark.parametrize("kind", [DGRAM, SEQPACKET])
def test_messages_keep_their_borders(d: Direct, kind: int) -> None:
    one, other = pair(d, kind)
    d.write(one, b"first")
    assert d.call("sendto", one, 0, 0, 0, 0, 0) == 0
    d.write(one, b"second")
    assert recvmsg(d, other, 2, 0) == (b"fi", b"", TRUNC)
    assert recvmsg(d, other, 8, 0)[0] == b""
    assert d.call("recvfrom", other, d.room(2), 2, TRUNC | PEEK, 0, 0) == 6
    assert d.read(other) == b"second"
    assert d.call("recvfrom", other, d.room(2), 2, DONTWAIT, 0, 0) == "EAGAIN"


def test_an_end_that_closes(d: Direct) -> None:
    one, other = pair(d)
    d.write(one, b"last")
    d.call("close", one)
    assert d.read(other) == b"last"
    assert d.read(other) == b""
    assert ready(d, other) == POLLIN | POLLOUT | POLLHUP | POLLRDHUP
    d.t.sigmask = 2**64 - 1
    assert d.call("sendto", other, b"x", 1, NOSIGNAL, 0, 0) == "EPIPE"
    assert not d.t.pending
    assert d.write(other, b"x") == "EPIPE"
    assert [info.signo for info in d.t.pending] == [13]


def test_what_was_never_read_is_a_reset(d: Direct) -> None:
    one, other = pair(d)
    d.write(other, b"unread")
    d.call("close", one)
    assert ready(d, other) & POLLERR
    assert d.read(other) == "ECONNRESET"
    assert d.read(other) == b""


def test_shutdown_is_one_way(d: Direct) -> None:
    one, other = pair(d)
    assert d.call("shutdown", one, 1) == 0
    assert d.read(other) == b""
    assert d.write(other, b"still") == 5
    assert d.read(one) == b"still"
    assert ready(d, other) == POLLIN | POLLOUT | POLLRDHUP
    d.t.sigmask = 2**64 - 1
    assert d.write(one, b"x") == "EPIPE"
    assert d.call("shutdown", one, 3) == "EINVAL"


def test_a_full_inbox_holds_the_sender_up(d: Direct) -> None:
    one, other = pair(d, STREAM | NONBLOCK)
    sent = d.write(one, bytes(400_000))
    assert 200_000 < sent < 250_000
    assert d.write(one, b"x") == "EAGAIN"
    assert ready(d, one) == 0
    assert len(d.read(other, 200_000)) == 200_000
    assert ready(d, one) == POLLOUT
    assert d.write(one, b"x") == 1


def test_small_datagrams_fill_it_as_linux_counts_them(d: Direct) -> None:
    one, _ = pair(d, DGRAM | NONBLOCK)
    count = 0
    while d.write(one, b"x") == 1:
        count += 1
    assert count == 278


def test_connect_accept_and_names(d: Direct) -> None:
    listening = server(d)
    assert d.stat("/tmp/s")["mode"] == 0o140755
    assert d.open("/tmp/s") == "ENXIO"
    caller = client(d)
    assert isinstance(caller, int)
    d.write(caller, b"early")
    at, size = d.room(16), d.put(struct.pack("<I", 16))
    end = d.call("accept4", listening, at, size, 0)
    assert struct.unpack("<I", d.get(size, 4)) == (2,)
    assert d.read(end) == b"early"
    for call, fd in (("getsockname", end), ("getpeername", caller)):
        assert d.call(call, fd, at, d.put(struct.pack("<I", 16))) == 0
        assert d.get(at, 9) == b"\1\0/tmp/s\0"
    value = d.room(12)
    assert d.call("getsockopt", end, 1, 17, value, d.put(struct.pack("<I", 12))) == 0
    assert struct.unpack("<3i", d.get(value, 12)) == (d.t.pid, 1000, 1000)


def test_a_listener_blocks_and_is_full(d: Direct) -> None:
    listening = server(d, backlog=0)
    assert isinstance(d.start("accept", listening, 0, 0), Wait)
    assert isinstance(client(d), int)
    assert client(d, flags=NONBLOCK) == "EAGAIN"
    assert isinstance(client(d), Wait)
    assert ready(d, listening) == POLLIN
    assert isinstance(d.call("accept", listening, 0, 0), int)
    assert isinstance(client(d), int)


def test_abstract_names_end_with_their_socket(d: Direct) -> None:
    listening = server(d, b"\0name")
    assert isinstance(client(d, b"\0name"), int)
    assert client(d, b"\0nam") == "ECONNREFUSED"
    other = d.call("socket", 1, STREAM, 0)
    assert named(d, "bind", other, b"\0name") == "EADDRINUSE"
    d.call("close", listening)
    assert named(d, "bind", other, b"\0name") == 0


def test_datagrams_to_a_name(d: Direct) -> None:
    receiver = server(d, b"/tmp/d", DGRAM)
    sender = d.call("socket", 1, DGRAM, 0)
    assert named(d, "bind", sender, b"") == 0
    where = address(b"/tmp/d")
    assert d.call("sendto", sender, b"hello", 5, 0, d.put(where), len(where)) == 5
    at, size = d.room(16), d.put(struct.pack("<I", 16))
    assert d.call("recvfrom", receiver, d.room(8), 8, 0, at, size) == 5
    assert d.get(at, 8) == b"\1\0\x0000000"
    d.call("close", receiver)
    assert d.call("sendto", sender, b"x", 1, 0, d.put(where), len(where)) == "ECONNREFUSED"
    assert d.write(sender, b"x") == "ENOTCONN"


def test_a_file_travels_and_outlives_its_descriptor(d: Direct) -> None:
    one, other = pair(d)
    reader, writer = d.pipe()
    data = d.put(b"take")
    assert d.call("sendmsg", one, message(d, data, 4, rights(writer)), 0) == 4
    d.call("close", writer)
    assert ready(d, reader) == 0
    got, control, flags = recvmsg(d, other, 8, 64, 0x4000_0000)
    assert (got, flags) == (b"take", 0)
    length, level, kind, fd = struct.unpack("<Qiii", control[:20])
    assert (length, level, kind) == (20, 1, 1)
    assert d.call("fcntl", fd, 1, 0) == 1
    assert d.write(fd, b"through") == 7
    assert d.read(reader) == b"through"


def test_files_nobody_takes_are_closed(d: Direct) -> None:
    one, other = pair(d)
    reader, writer = d.pipe()
    data = d.put(b"ab")
    d.call("sendmsg", one, message(d, data, 1, rights(writer)), 0)
    d.call("sendmsg", one, message(d, data, 1, rights(writer, writer)), 0)
    d.call("close", writer)
    assert d.read(other) == b"a"
    assert recvmsg(d, other, 8, 16)[1:] == (b"", 8)
    assert d.read(reader) == b""


def test_sockets_in_sockets_are_closed_one_after_another(d: Direct) -> None:
    """Each waits in the next one's message; the last close releases all."""
    reader, held = d.pipe()
    data = d.put(b"a")
    for _ in range(2000):
        mark = d.next
        one, other = pair(d)
        assert d.call("sendmsg", one, message(d, data, 1, rights(held)), 0) == 1
        d.call("close", held)
        d.call("close", one)
        held = other
        d.next = mark
    assert ready(d, reader) == 0
    assert d.call("close", held) == 0
    assert d.read(reader) == b""


def test_a_descriptor_that_is_none_sends_nothing(d: Direct) -> None:
    one, _ = pair(d)
    assert d.call("sendmsg", one, message(d, d.put(b"a"), 1, rights(77)), 0) == "EBADF"


def test_peek_and_waitall(d: Direct) -> None:
    one, other = pair(d)
    d.write(one, b"ab")
    at = d.room(4)
    assert d.call("recvfrom", other, at, 4, PEEK, 0, 0) == 2
    assert isinstance(d.start("recvfrom", other, at, 4, WAITALL, 0, 0), Wait)
    saved = d.pending, d.t.blocked
    d.write(one, b"cd")
    d.pending, d.t.blocked = saved
    assert d.retry() == 4
    assert d.get(at, 4) == b"abcd"


def test_what_is_refused_is_named(d: Direct) -> None:
    assert d.call("socket", 16, STREAM, 0) == "EAFNOSUPPORT"
    assert any("AF_NETLINK" in warning for warning in d.k.warnings)
    assert d.call("socket", 1, 9, 0) == "ESOCKTNOSUPPORT"
    assert d.call("socket", 1, STREAM, 6) == "EPROTONOSUPPORT"
    assert d.call("listen", 0, 1) == "ENOTSOCK"
    fd = d.call("socket", 1, STREAM, 0)
    assert d.call("listen", fd, 1) == "EINVAL"
    assert d.write(fd, b"x") == "ENOTCONN"
    assert ready(d, fd) == POLLOUT | POLLHUP
    timeout = struct.pack("<qq", 1, 0)
    assert d.call("setsockopt", fd, 1, 20, timeout, 16) == 0


def test_two_processes_over_a_pair() -> None:
    result = run("""
        sys 199, 1, 1, 0, fds
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        li s0, fds
        lw a0, 0(s0)
        li a1, word
        li a2, 8
        sys 63
        report a0
        li s0, word
        ld s1, 0(s0)
        report s1
        exit 0
    child:
        li s0, fds
        lw a0, 4(s0)
        li a1, message
        li a2, 8
        sys 64
        exit 0
        .align 8
    fds: .dword 0
    message: .dword 42
    word: .dword 0
    """)
    assert (result.ending, result.words) == ("exited", [8, 42])


def test_who_owns_an_asynchronous_socket_is_sent_sigio() -> None:
    d = Direct()
    fds = d.room(8)
    assert d.call("socketpair", 1, 1, 0, fds) == 0
    one, other = struct.unpack("<2i", d.get(fds, 8))
    sigio, fioasync, setown, getown, setfl, o_async = 29, 0x5452, 8, 9, 4, 0o20000
    assert d.call("ioctl", one, fioasync, struct.pack("<I", 1)) == 0
    assert d.call("fcntl", one, 3, 0) & o_async
    assert d.call("fcntl", one, setown, 99999) == "ESRCH"
    assert d.call("fcntl", one, setown, d.t.pid) == 0
    assert d.call("fcntl", one, getown, 0) == d.t.pid
    d.t.sigmask = 1 << (sigio - 1)  # (ignored by default, and dropped unless blocked)
    d.write(other, b"x")
    pending = d.room(8)
    assert d.call("rt_sigpending", pending, 8) == 0
    assert struct.unpack("<Q", d.get(pending, 8))[0] == 1 << (sigio - 1)
    assert d.call("fcntl", one, setfl, 0) == 0
    assert not d.call("fcntl", one, 3, 0) & o_async
