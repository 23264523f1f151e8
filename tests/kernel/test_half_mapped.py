"""A buffer of which only the first part is mapped: what moves, as Linux 7.2.13 answers."""

from __future__ import annotations

import pytest
from direct import Direct

from shstk.schemas.uapi import AF_UNIX, O_NONBLOCK, PAGE, SOCK_DGRAM, SOCK_STREAM

TEXT = b"0123456789"


@pytest.fixture
def d() -> Direct:
    return Direct()


def half(d: Direct, mapped: int = 4) -> int:
    """An address with `mapped` bytes mapped behind it."""
    base = d.call("mmap", 0, 2 * PAGE, 3, 0x22, -1, 0)
    assert isinstance(base, int)
    assert d.call("munmap", base + PAGE, PAGE) == 0
    return base + PAGE - mapped


def pair(d: Direct, call: str, *arguments: int | None) -> tuple[int, int]:
    """Two descriptors, stored where the None among the arguments is."""
    where = d.room(8)
    assert d.call(call, *(where if a is None else a for a in arguments)) == 0
    data = d.get(where, 8)
    return int.from_bytes(data[:4], "little"), int.from_bytes(data[4:], "little")


def test_a_pipe_moves_whole_buffers_only(d: Direct) -> None:
    reader, writer = pair(d, "pipe2", None, O_NONBLOCK)
    room = d.room(64)
    assert d.call("write", writer, half(d), 10) == "EFAULT"
    assert d.call("read", reader, room, 64) == "EAGAIN"
    assert d.call("write", writer, half(d, PAGE), PAGE + 10) == PAGE
    assert d.call("read", reader, d.room(PAGE), PAGE) == PAGE
    assert d.call("write", writer, TEXT, 10) == 10
    assert d.call("read", reader, half(d), 10) == "EFAULT"
    assert d.call("read", reader, room, 64) == 10


@pytest.mark.parametrize(("kind", "left"), [(SOCK_STREAM, 10), (SOCK_DGRAM, "EAGAIN")])
def test_a_stream_keeps_the_message_and_a_datagram_is_lost(
    d: Direct, kind: int, left: object
) -> None:
    one, other = pair(d, "socketpair", AF_UNIX, kind | O_NONBLOCK, 0, None)
    room = d.room(64)
    assert d.call("sendto", one, half(d), 10, 0, 0, 0) == "EFAULT"
    assert d.call("sendto", one, TEXT, 10, 0, 0, 0) == 10
    assert d.call("recvfrom", other, half(d), 10, 0, 0, 0) == "EFAULT"
    assert d.call("recvfrom", other, room, 64, 0, 0, 0) == left


def test_devices(d: Direct) -> None:
    null = d.call("openat", -100, b"/dev/null\0", 1, 0)
    assert d.call("write", null, half(d, 0), 10) == 10
    assert d.call("getrandom", half(d), 10, 0) == 4
    assert d.call("getrandom", half(d, 0), 10, 0) == "EFAULT"
