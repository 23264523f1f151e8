"""Blocking and waking: pipes, named pipes, eventfd, poll, select, epoll."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.call import RESTART, RESTART_NO_HAND, Wait

O_WRONLY, O_RDWR, O_NONBLOCK = 1, 2, 0o4000
POLLIN, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 4, 8, 0x10, 0x20
EPOLLONESHOT, EPOLLET = 1 << 30, 1 << 31
ADD, DELETE, MODIFY = 1, 2, 3


@pytest.fixture
def d() -> Direct:
    return Direct()


def test_a_pipe_carries_bytes_in_order(d: Direct) -> None:
    reader, writer = d.pipe()
    d.write(writer, b"one")
    d.write(writer, b"two")
    assert d.read(reader, 4) == b"onet"
    assert d.read(reader) == b"wo"
    assert d.call("read", reader, 0, 0) == 0


def test_an_empty_pipe_blocks_until_written_to_or_closed(d: Direct) -> None:
    reader, writer = d.pipe()
    addr = d.room(8)
    wait = d.start("read", reader, addr, 8)
    assert isinstance(wait, Wait)
    assert wait.interruptible
    assert d.retry("signal") is RESTART
    saved = d.pending, d.t.blocked
    d.write(writer, b"now")
    d.pending, d.t.blocked = saved
    assert d.retry() == 3
    d.call("close", writer)
    assert d.read(reader) == b""


def test_who_may_not_block_gets_eagain(d: Direct) -> None:
    reader, writer = d.pipe(O_NONBLOCK)
    assert d.read(reader) == "EAGAIN"
    assert d.write(writer, bytes(1 << 16)) == 1 << 16
    assert d.write(writer, b"x") == "EAGAIN"
    assert len(d.read(reader, 4095)) == 4095
    assert d.write(writer, bytes(4096)) == "EAGAIN"  # a write of PIPE_BUF is never split
    assert d.write(writer, bytes(5000)) == "EAGAIN"
    assert d.read(reader, 1) == bytes(1)
    assert d.write(writer, bytes(5000)) == 4096


def test_a_long_write_goes_on_until_all_is_written(d: Direct) -> None:
    reader, writer = d.pipe()
    data = d.put(bytes(range(256)) * 390)
    assert isinstance(d.start("write", writer, data, 99840), Wait)
    saved = d.pending, d.t.blocked
    got = d.read(reader, 1 << 16)
    d.pending, d.t.blocked = saved
    assert d.retry() == 99840
    assert got + d.read(reader, 1 << 16) == bytes(range(256)) * 390


def test_a_signal_ends_a_half_written_write_with_its_count(d: Direct) -> None:
    _, writer = d.pipe()
    assert isinstance(d.start("write", writer, d.room(70000), 70000), Wait)
    assert d.retry("signal") == 65536


def test_nobody_reads_sigpipe(d: Direct) -> None:
    reader, writer = d.pipe()
    d.call("close", reader)
    d.t.sigmask = 2**64 - 1
    assert d.write(writer, b"x") == "EPIPE"
    assert [info.signo for info in d.t.pending] == [13]


def test_a_pipe_between_two_processes() -> None:
    """The parent blocks in read until the child writes, then until it exits."""
    result = run("""
        sys 59, fds, 0
        sys 220, 17, 0, 0, 0, 0
        bne a0, zero, parent
        li s0, fds
        lw a0, 4(s0)
        sys 64
        li a1, message
        li a2, 8
        lw a0, 4(s0)
        sys 64
        exit 3
    parent:
        li s0, fds
        lw a0, 4(s0)
        sys 57
        lw a0, 0(s0)
        li a1, word
        li a2, 8
        sys 63
        report a0
        lw a0, 0(s0)
        li a1, word
        li a2, 8
        sys 63
        report a0
        exit 0
        .align 8
    fds: .dword 0
    message: .dword 42
    word: .dword 0
    """)
    assert (result.status, result.ending, result.words) == (0, "exited", [8, 0])


def test_a_named_pipe_waits_for_its_partner(d: Direct) -> None:
    assert d.at("mknodat", "/tmp/p", 0o010644, 0) == 0
    assert d.stat("/tmp/p")["mode"] == 0o10644
    assert d.open("/tmp/p", O_WRONLY | O_NONBLOCK) == "ENXIO"
    assert isinstance(d.start("openat", -100, b"/tmp/p\0", 0), Wait)
    reading = d.pending, d.t.blocked
    writer = d.open("/tmp/p", O_WRONLY)
    d.pending, d.t.blocked = reading
    reader = d.retry()
    assert (writer, reader) == (3, 4)
    d.write(writer, b"through")
    assert d.read(reader) == b"through"
    assert d.at("mknodat", "/tmp/b", 0o060644, 0) == "EPERM"


def test_an_interrupted_open_leaves_no_reader(d: Direct) -> None:
    d.at("mknodat", "/tmp/p", 0o010644, 0)
    d.start("openat", -100, b"/tmp/p\0", 0)
    assert d.retry("signal") is RESTART
    assert d.open("/tmp/p", O_WRONLY | O_NONBLOCK) == "ENXIO"
    assert isinstance(d.open("/tmp/p", O_RDWR), int)


def test_eventfd(d: Direct) -> None:
    fd = d.call("eventfd2", 3, 0)
    word = (5).to_bytes(8, "little")
    assert d.write(fd, word) == 8
    assert d.read(fd, 8) == (8).to_bytes(8, "little")
    assert isinstance(d.start("read", fd, d.room(8), 8), Wait)
    assert d.read(fd, 4) == "EINVAL"
    assert d.write(fd, b"\xff" * 8) == "EINVAL"
    semaphore = d.call("eventfd2", 2, 1 | O_NONBLOCK)
    assert [d.read(semaphore, 8) for _ in range(3)] == [b"\1" + bytes(7)] * 2 + ["EAGAIN"]


def poll(d: Direct, *asked: tuple[int, int], timeout: int | None = 0, mask: int = 0) -> object:
    """[revents…], or ppoll's outcome if it is not a number."""
    addr = d.put(b"".join(struct.pack("<ihh", fd, events, 0) for fd, events in asked))
    spec = b"" if timeout is None else struct.pack("<qq", *divmod(timeout, 10**9))
    when = d.put(spec) if spec else 0
    result = d.start("ppoll", addr, len(asked), when, mask, 8)
    if not isinstance(result, int):
        return result
    return [r for _, _, r in struct.iter_unpack("<ihh", d.get(addr, 8 * len(asked)))]


def test_poll(d: Direct) -> None:
    reader, writer = d.pipe()
    file = d.open("/guest")
    asked = [(reader, POLLIN), (writer, POLLOUT), (-1, POLLIN), (99, 0), (file, POLLIN | POLLOUT)]
    assert poll(d, *asked) == [0, POLLOUT, 0, POLLNVAL, POLLIN | POLLOUT]
    d.write(writer, b"x")
    assert poll(d, (reader, POLLIN)) == [POLLIN]
    d.call("close", writer)
    assert poll(d, (reader, POLLIN)) == [POLLIN | POLLHUP]
    reader, writer = d.pipe()
    d.call("close", reader)
    assert poll(d, (writer, 0)) == [POLLERR]


def test_poll_sleeps_until_readiness_the_deadline_or_a_signal(d: Direct) -> None:
    reader, _ = d.pipe()
    wait = poll(d, (reader, POLLIN), timeout=5000)
    assert isinstance(wait, Wait)
    assert wait.deadline_ns == d.k.now_ns() + 5000
    d.idle(4999)
    assert isinstance(d.retry(), Wait)
    d.idle(1)
    assert d.retry("deadline") == 0
    assert isinstance(poll(d, (reader, POLLIN), timeout=None), Wait)
    assert d.retry("signal") is RESTART_NO_HAND


def test_ppoll_swaps_the_mask_while_it_waits(d: Direct) -> None:
    reader, _ = d.pipe()
    poll(d, (reader, POLLIN), timeout=None, mask=d.put((1 << 9).to_bytes(8, "little")))
    assert (d.t.sigmask, d.t.saved_sigmask) == (1 << 9, 0)


def test_select(d: Direct) -> None:
    reader, writer = d.pipe()
    d.write(writer, b"x")
    reads, writes = (
        d.put((1 << reader).to_bytes(8, "little")),
        d.put(bytes([1 << writer] + [0] * 7)),
    )
    assert d.call("pselect6", writer + 1, reads, writes, 0, 0, 0) == 2
    assert (d.get(reads, 1), d.get(writes, 1)) == (bytes([1 << reader]), bytes([1 << writer]))
    d.read(reader)
    assert isinstance(d.start("pselect6", writer + 1, reads, 0, 0, 0, 0), Wait)
    closed = d.put((1 << 2 | 1 << writer).to_bytes(8, "little"))
    d.call("close", 2)
    assert d.call("pselect6", writer + 1, closed, 0, 0, 0, 0) == "EBADF"


class Watch:
    def __init__(self, d: Direct) -> None:
        self.d, self.fd = d, d.call("epoll_create1", 0)

    def ctl(self, command: int, fd: int, events: int = 0, data: int = 0) -> object:
        return self.d.call("epoll_ctl", self.fd, command, fd, struct.pack("<I4xQ", events, data))

    def wait(self, timeout: int = 0) -> object:
        addr = self.d.room(160)
        n = self.d.start("epoll_pwait", self.fd, addr, 10, timeout, 0, 0)
        if not isinstance(n, int):
            return n
        return list(struct.iter_unpack("<I4xQ", self.d.get(addr, 16 * n)))


def test_epoll_level_edge_and_one_shot(d: Direct) -> None:
    watch = Watch(d)
    reader, writer = d.pipe()
    assert watch.ctl(ADD, reader, POLLIN, 7) == 0
    assert watch.ctl(ADD, reader, POLLIN) == "EEXIST"
    assert watch.wait() == []
    d.write(writer, b"ab")
    assert watch.wait() == watch.wait() == [(POLLIN, 7)]
    watch.ctl(MODIFY, reader, POLLIN | EPOLLET, 8)
    assert (watch.wait(), watch.wait()) == ([(POLLIN, 8)], [])
    d.write(writer, b"c")
    assert watch.wait() == [(POLLIN, 8)]
    watch.ctl(MODIFY, reader, POLLIN | EPOLLONESHOT, 9)
    assert (watch.wait(), watch.wait()) == ([(POLLIN, 9)], [])
    d.call("close", writer)
    assert watch.wait() == []
    watch.ctl(MODIFY, reader, POLLIN, 1)
    assert watch.wait() == [(POLLIN | POLLHUP, 1)]
    assert watch.ctl(DELETE, reader) == 0
    assert watch.ctl(DELETE, reader) == "ENOENT"


def test_epolls_nest_five_deep_and_in_no_loop(d: Direct) -> None:
    """ep_loop_check(), as Linux 7.2.13 answers."""
    chain = [Watch(d) for _ in range(6)]
    for outer, inner in pairwise(chain[:5]):
        assert outer.ctl(ADD, inner.fd, POLLIN) == 0
    assert chain[4].ctl(ADD, chain[5].fd, POLLIN) == "ELOOP"
    assert chain[4].ctl(ADD, chain[0].fd, POLLIN) == "ELOOP"
    assert chain[0].ctl(DELETE, chain[1].fd) == 0
    assert chain[4].ctl(ADD, chain[5].fd, POLLIN) == 0
    assert d.call("close", chain[3].fd) == 0
    assert chain[4].ctl(ADD, chain[0].fd, POLLIN) == 0


def test_what_goes_with_an_exclusive_wait(d: Direct) -> None:
    epoll, exclusive = Watch(d), 1 << 28
    reader, _ = d.pipe()
    assert epoll.ctl(ADD, Watch(d).fd, POLLIN | exclusive) == "EINVAL"
    assert epoll.ctl(ADD, reader, POLLIN | EPOLLONESHOT | exclusive) == "EINVAL"
    assert epoll.ctl(ADD, reader, POLLIN | exclusive) == 0
    assert epoll.ctl(MODIFY, reader, POLLIN) == "EINVAL"


def test_one_event_wakes_one_exclusive_waiter() -> None:
    """The other sleeps on, until its timeout."""
    result = run("""
        sys 59, fds, 0
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        sys 101, soon, 0
        li s0, fds
        lw a0, 4(s0)
        li a1, fds
        li a2, 1
        sys 64
        sys 101, soon, 0
        sys 260, -1, 0, 0, 0
        sys 260, -1, 0, 0, 0
        exit 0
    child:
        sys 20, 0
        mv s1, a0
        li s0, fds
        lw a2, 0(s0)
        li a1, 1
        li a3, event
        sys 21
        mv a0, s1
        li a1, event
        li a2, 1
        li a3, 100
        li a4, 0
        sys 22
        sys 93
        .align 8
    fds: .dword 0
    event: .dword 0x90000001, 0
    soon: .dword 0, 1000000
    """)
    statuses = {e["tid"]: e["status"] for e in result.rows("task_events") if e["kind"] == "reaped"}
    assert statuses == {100: 0, 101: 1 << 8, 102: 0}


def test_an_edge_belongs_to_a_direction(d: Direct) -> None:
    """Each wake names its events, and a pipe wakes writers only when it was full."""
    watch = Watch(d)
    reader, writer = d.pipe()
    watch.ctl(ADD, writer, POLLOUT | EPOLLET, 1)
    assert (watch.wait(), watch.wait()) == ([(POLLOUT, 1)], [])
    assert d.write(writer, bytes(65536)) == 65536
    d.read(reader, 100)
    assert watch.wait() == []
    d.read(reader, 4096)
    assert (watch.wait(), watch.wait()) == ([(POLLOUT, 1)], [])
    d.read(reader, 8192)
    assert watch.wait() == []
    pair = d.room(8)
    d.call("socketpair", 1, 1, 0, pair)
    one, other = struct.unpack("<ii", d.get(pair, 8))
    watch.ctl(ADD, one, POLLOUT | EPOLLET, 2)
    assert watch.wait() == [(POLLOUT, 2)]
    d.write(other, b"x")
    assert watch.wait() == []
    watch.ctl(MODIFY, one, POLLIN | POLLOUT | EPOLLET, 2)
    assert (watch.wait(), watch.wait()) == ([(POLLIN | POLLOUT, 2)], [])
    d.write(one, b"y")
    assert watch.wait() == []
    d.read(other, 1)  # unix_write_space()
    assert watch.wait() == [(POLLIN | POLLOUT, 2)]


def test_epoll_waits_and_forgets_what_is_closed(d: Direct) -> None:
    watch = Watch(d)
    reader, writer = d.pipe()
    watch.ctl(ADD, writer, POLLOUT, 1)
    d.call("close", writer)
    wait = watch.wait(timeout=3)
    assert isinstance(wait, Wait)
    assert wait.deadline_ns == d.k.now_ns() + 3_000_000
    assert d.retry("signal") == "EINTR"
    assert watch.ctl(ADD, d.open("/guest"), POLLIN) == "EPERM"
    assert watch.ctl(ADD, watch.fd, POLLIN) == "EINVAL"
    assert d.call("epoll_pwait", reader, d.room(16), 1, 0, 0, 0) == "EINVAL"
