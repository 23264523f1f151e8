"""io_setup, io_submit and their kin."""

from __future__ import annotations

import struct

import pytest
from direct import Direct

from shstk.tracer.kernel.call import Wait

PREAD, PWRITE, FSYNC, POLL, PREADV = 0, 1, 2, 5, 7
O_RDWR, O_CREAT = 2, 0o100


@pytest.fixture
def d() -> Direct:
    return Direct()


def setup(d: Direct, count: int = 4) -> int:
    at = d.put(bytes(8))
    assert d.call("io_setup", count, at) == 0
    return int.from_bytes(d.get(at, 8), "little")


def iocb(
    d: Direct, op: int, fd: int, buf: int = 0, n: int = 0, at: int = 0, eventfd: int | None = None
) -> int:
    flags = (1, eventfd) if eventfd is not None else (0, 0)
    return d.put(struct.pack("<QIIHhIQQqQII", 0xDA7A + op, 0, 0, op, 0, fd, buf, n, at, 0, *flags))


def submit(d: Direct, context: int, *requests: int) -> object:
    return d.call("io_submit", context, len(requests), struct.pack(f"<{len(requests)}Q", *requests))


def events(d: Direct, context: int, least: int = 0, most: int = 9) -> object:
    room, nothing = d.room(32 * most), d.put(bytes(16))
    n = d.call("io_getevents", context, least, most, room, nothing)
    return list(struct.iter_unpack("<QQqq", d.get(room, 32 * n))) if isinstance(n, int) else n


def test_requests_are_done_and_fetched(d: Direct) -> None:
    context, fd, buf = setup(d), d.open("/f", O_RDWR | O_CREAT), d.room(16)
    write = iocb(d, PWRITE, fd, d.put(b"abcdef"), 6, 2)
    read = iocb(d, PREAD, fd, buf, 16, 4)
    sync = iocb(d, FSYNC, fd)
    assert submit(d, context, write, read, sync) == 3
    assert d.get(buf, 4) == b"cdef"
    assert events(d, context) == [
        *((0xDA7A + PWRITE, write, 6, 0), (0xDA7A + PREAD, read, 4, 0)),
        (0xDA7A + FSYNC, sync, 0, 0),
    ]
    assert events(d, context) == []
    assert d.text("/f") == b"\0\0abcdef"


def test_vectors_and_errors_of_a_transfer(d: Direct) -> None:
    context, fd = setup(d), d.open("/f", O_RDWR | O_CREAT)
    d.write(fd, b"abcdef")
    first, second = d.room(2), d.room(9)
    parts = d.put(struct.pack("<4Q", first, 2, second, 9))
    assert submit(d, context, iocb(d, PREADV, fd, parts, 2), iocb(d, PREAD, fd, 8, 4)) == 2
    assert [event[2] for event in events(d, context)] == [6, -14]  # EFAULT
    assert (d.get(first, 2), d.get(second, 4)) == (b"ab", b"cdef")


def test_an_eventfd_is_told(d: Direct) -> None:
    context, counter = setup(d), d.call("eventfd2", 0, 0)
    fd = d.open("/f", O_RDWR | O_CREAT)
    request = iocb(d, PWRITE, fd, d.put(b"x"), 1, 0, counter)
    assert submit(d, context, request, request) == 2
    assert d.read(counter, 8) == (2).to_bytes(8, "little")


def test_what_submit_refuses(d: Direct) -> None:
    context, fd = setup(d, 1), d.open("/f", O_RDWR | O_CREAT)
    good = iocb(d, PWRITE, fd, d.put(b"x"), 1)
    assert submit(d, 1, good) == "EINVAL"
    assert d.call("io_submit", context, -1, 0) == "EINVAL"
    assert submit(d, context, 8) == d.call("io_submit", context, 1, 8) == "EFAULT"
    assert submit(d, context, iocb(d, PWRITE, 99)) == "EBADF"
    assert submit(d, context, iocb(d, 6, fd)) == "EINVAL"
    assert submit(d, context, iocb(d, PREAD, d.pipe()[1])) == "EBADF", "not open for reading"
    assert submit(d, context, iocb(d, PWRITE, fd, eventfd=fd)) == "EINVAL"
    assert submit(d, context, iocb(d, POLL, fd)) == "EINVAL"
    assert d.k.warnings == ["io_submit met a limit of the model: no IOCB_CMD_POLL"]
    assert submit(d, context, good, iocb(d, PWRITE, 99)) == 1, "the first one was taken"
    assert submit(d, context, good) == "EAGAIN", "there is room for one event"
    assert submit(d, context) == 0


def test_contexts(d: Direct) -> None:
    assert d.call("io_setup", 0, d.put(bytes(8))) == "EINVAL"
    assert d.call("io_setup", 1, d.put(b"\1" * 8)) == "EINVAL"
    assert d.call("io_setup", 1, 8) == "EFAULT"
    assert d.call("io_setup", 65537, d.put(bytes(8))) == "EAGAIN"
    context = setup(d)
    assert d.call("io_cancel", context, iocb(d, PREAD, 0), 0) == "EINVAL"
    assert d.call("io_cancel", context, 8, 0) == "EFAULT"
    assert d.call("io_destroy", context) == 0
    assert d.call("io_destroy", context) == "EINVAL"
    assert events(d, context) == "EINVAL"


def test_events_are_waited_for(d: Direct) -> None:
    context, room = setup(d), d.room(64)
    assert events(d, context, least=2, most=1) == "EINVAL"
    assert isinstance(d.start("io_getevents", context, 1, 2, room, 0), Wait)
    waiting = d.pending
    submit(d, context, iocb(d, PWRITE, d.open("/f", O_RDWR | O_CREAT), d.put(b"x"), 1))
    d.pending = waiting
    assert d.retry() == 1
    assert isinstance(d.start("io_getevents", context, 1, 2, room, 0), Wait)
    assert d.retry("signal") == "EINTR"


def test_a_request_on_an_empty_pipe_waits(d: Direct) -> None:
    context, (r, w), buf = setup(d), d.pipe(), d.room(8)
    requests = (iocb(d, PWRITE, w, d.put(b"")), iocb(d, PREAD, r, buf, 8))
    array = struct.pack("<2Q", *requests)
    assert isinstance(d.start("io_submit", context, 2, array), Wait)
    waiting, state = d.pending, d.t.blocked
    d.write(w, b"late")
    d.pending, d.t.blocked = waiting, state
    assert d.retry() == 2
    assert [event[2] for event in events(d, context)] == [0, 4]
