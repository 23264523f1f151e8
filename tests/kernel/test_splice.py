"""splice, tee, vmsplice."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.call import Wait

NONBLOCK, O_RDWR, O_CREAT, O_APPEND = 2, 2, 0o100, 0o2000


@pytest.fixture
def d() -> Direct:
    return Direct()


def iov(d: Direct, *parts: bytes) -> int:
    return d.put(b"".join(struct.pack("<QQ", d.put(part), len(part)) for part in parts))


def test_a_file_goes_through_a_pipe(d: Direct) -> None:
    d.save("/in", b"0123456789")
    source, out, (r, w) = d.open("/in"), d.open("/out", O_RDWR | O_CREAT), d.pipe()
    at = d.put((4).to_bytes(8, "little"))
    assert d.call("splice", source, at, w, 0, 100, 0) == 6
    assert int.from_bytes(d.get(at, 8), "little") == 10
    assert d.call("splice", source, 0, w, 0, 2, 0) == 2
    assert d.call("lseek", source, 0, 1) == 2
    at = d.put((1).to_bytes(8, "little"))
    assert d.call("splice", r, 0, out, at, 5, 0) == 5
    assert d.call("splice", r, 0, out, 0, 100, 0) == 3
    assert d.text("/out") == b"901678"


def test_from_pipe_to_pipe(d: Direct) -> None:
    (r, w), (other_r, other_w) = d.pipe(), d.pipe()
    d.write(w, b"abcdef")
    assert d.call("tee", r, other_w, 4, 0) == 4
    assert d.read(other_r) == b"abcd"
    assert d.call("splice", r, 0, other_w, 0, 4, 0) == 4
    assert (d.read(other_r), d.read(r)) == (b"abcd", b"ef")


def test_memory_to_a_pipe_and_back(d: Direct) -> None:
    r, w = d.pipe()
    assert d.call("vmsplice", w, iov(d, b"ab", b"cde"), 2, 0) == 5
    into = iov(d, bytes(3), bytes(9))
    assert d.call("vmsplice", r, into, 2, 0) == 5
    first, second = (struct.unpack("<QQ", d.get(into + n, 16))[0] for n in (0, 16))
    assert (d.get(first, 3), d.get(second, 2)) == (b"abc", b"de")


def test_an_empty_or_full_pipe_is_waited_for(d: Direct) -> None:
    (r, w), (other_r, other_w) = d.pipe(), d.pipe()
    assert d.call("splice", r, 0, other_w, 0, 9, NONBLOCK) == "EAGAIN"
    assert d.call("tee", r, other_w, 9, NONBLOCK) == "EAGAIN"
    assert d.call("vmsplice", r, iov(d, bytes(4)), 1, NONBLOCK) == "EAGAIN"
    assert isinstance(d.start("splice", r, 0, other_w, 0, 9, 0), Wait)
    d.write(w, b"x")
    assert d.call("splice", r, 0, other_w, 0, 9, 0) == 1
    d.write(w, bytes(65536))
    assert d.call("vmsplice", w, iov(d, b"y"), 1, NONBLOCK) == "EAGAIN"
    assert isinstance(d.start("vmsplice", w, iov(d, b"y"), 1, 0), Wait)
    d.call("close", w)
    assert d.call("splice", r, 0, other_w, 0, 1 << 20, 0) == 61440, "15 pages beside that of the x"
    assert d.read(other_r, 1 << 16) == b"x" + bytes(61440)
    assert d.read(r) == bytes(4096)
    assert d.call("splice", r, 0, other_w, 0, 9, 0) == 0, "no writer is left"


def test_nobody_reads(d: Direct) -> None:
    r, w = d.pipe()
    d.call("close", r)
    d.t.sigmask = 1 << 12
    assert d.call("vmsplice", w, iov(d, b"y"), 1, 0) == "EPIPE"
    assert [info.signo for info in d.t.pending] == [13]


def test_what_is_refused(d: Direct) -> None:
    d.save("/in", b"0123456789")
    source, (r, w) = d.open("/in"), d.pipe()
    event, at = d.call("eventfd2", 5, 0), d.room(8)
    appending = d.open("/in", O_RDWR | O_APPEND)
    d.write(w, b"abc")
    assert d.call("splice", source, 0, w, 0, 0, 99) == 0
    assert d.call("splice", source, 0, w, 0, 1, 0x10) == "EINVAL"
    assert d.call("splice", source, 0, r, 0, 1, 0) == "EBADF", "not its writing end"
    assert d.call("splice", source, 0, 99, 0, 1, 0) == "EBADF"
    assert d.call("splice", source, 0, d.open("/o", O_RDWR | O_CREAT), 0, 1, 0) == "EINVAL"
    assert d.call("splice", r, 0, w, 0, 1, 0) == "EINVAL", "one pipe"
    assert d.call("splice", r, at, w, 0, 1, 0) == "ESPIPE"
    assert d.call("splice", source, 0, w, at, 1, 0) == "ESPIPE"
    assert d.call("splice", source, 8, w, 0, 1, 0) == "EFAULT"
    assert d.call("splice", source, d.put(b"\xff" * 8), w, 0, 1, 0) == "EINVAL"
    assert d.call("splice", r, 0, appending, 0, 1, 0) == "EINVAL"
    assert d.call("splice", event, 0, w, 0, 8, 0) == "EINVAL"
    assert d.call("splice", d.open("/", 0o200000), 0, w, 0, 8, 0) == "EINVAL"
    assert d.call("tee", source, w, 1, 0) == "EINVAL"
    assert d.call("tee", r, w, 1, 0) == "EINVAL"
    assert d.call("vmsplice", source, iov(d, b"y"), 1, 0) == "EBADF"
    assert d.call("vmsplice", w, iov(d, b"y"), 1025, 0) == "EINVAL"
    assert d.read(r) == b"abc"


def test_standard_output_is_a_pipe(d: Direct) -> None:
    r, w = d.pipe()
    d.write(w, b"said")
    assert d.call("splice", r, 0, 1, 0, 9, 0) == 4
    assert d.output == [(1, b"said")]


def test_a_reader_wakes_one_that_waits_for_room() -> None:
    """The parent fills a pipe by vmsplice; its child reads a page of it."""
    result = run(
        """
        sys 59, ends, 0
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        li s0, ends
        lw s1, 4(s0)
        mv a0, s1
        li a1, big
        li a2, 1
        li a3, 0
        sys 75
        report a0
        mv a0, s1
        li a1, small
        sys 75
        report a0
        exit 0
    child:
        li s0, ends
        lw a0, 0(s0)
        li a1, page
        li a2, 4096
        sys 63
        exit 0
        .align 8
    ends: .dword 0
    big: .dword 0x10000, 65536
    small: .dword room, 3
    room: .dword 0
    """
        + "    page: .zero 65536\n"
    )
    assert (result.ending, result.words) == ("exited", [65536, 3])
