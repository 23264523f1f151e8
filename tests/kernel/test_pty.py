"""Pseudo-terminals: input, output, and the signals that they send."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from hypothesis import given
from hypothesis import strategies as st

from shstk.schemas.uapi import SIGNALS
from shstk.tracer.kernel.call import Interrupted, Wait
from shstk.tracer.kernel.tty.discipline import COOKED, TERMIOS, Discipline

TCGETS, TCSETS, TIOCSCTTY, TIOCGPGRP, TIOCSPGRP = 0x5401, 0x5402, 0x540E, 0x540F, 0x5410
TIOCGWINSZ, TIOCSWINSZ, FIONREAD = 0x5413, 0x5414, 0x541B
TIOCGPTN, TIOCSPTLCK, TIOCGPTPEER = 0x80045430, 0x40045431, 0x5441
O_RDWR, O_NOCTTY, O_NONBLOCK = 2, 0o400, 0o4000


class Pair:
    """A pseudo-terminal with both ends open and non-blocking."""

    def __init__(self, d: Direct, flags: int = O_RDWR | O_NOCTTY | O_NONBLOCK) -> None:
        self.d = d
        self.master = d.open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK)
        number = d.room(4)
        assert d.call("ioctl", self.master, TIOCGPTN, number) == 0
        self.path = f"/dev/pts/{struct.unpack('<I', d.get(number, 4))[0]}"
        assert d.open(self.path, flags) == "EIO"  # locked
        assert d.call("ioctl", self.master, TIOCSPTLCK, bytes(4)) == 0
        self.slave = d.open(self.path, flags)

    def read(self, fd: int, n: int = 100) -> bytes | str | Wait:
        room = self.d.room(n)
        got = self.d.call("read", fd, room, n)
        return self.d.get(room, got) if isinstance(got, int) else got

    def type(self, data: bytes) -> None:
        assert self.d.call("write", self.master, data, len(data)) == len(data)

    def mode(self, *, off: int = 0, vmin: int = 1, vtime: int = 0) -> None:
        iflag, oflag, cflag, lflag, line, cc = TERMIOS.unpack(COOKED)
        cc = cc[:5] + bytes([vtime, vmin]) + cc[7:]
        termios = TERMIOS.pack(iflag, oflag, cflag, lflag & ~off, line, cc)
        assert self.d.call("ioctl", self.slave, TCSETS, termios) == 0


@pytest.fixture
def d() -> Direct:
    """A leader of its session: the first terminal that it opens controls it."""
    d = Direct()
    assert d.call("setsid") == d.t.pid
    return d


def test_a_line_goes_one_way_its_echo_the_other(d: Direct) -> None:
    pair = Pair(d)
    pair.type(b"ab\x7fc")
    assert pair.read(pair.slave) == "EAGAIN"
    pair.type(b"\rrest")
    assert pair.read(pair.slave) == b"ac\n"
    assert pair.read(pair.slave) == "EAGAIN"
    assert pair.read(pair.master) == b"ab\b \bc\r\nrest"


def test_output_gets_its_carriage_returns(d: Direct) -> None:
    pair = Pair(d)
    assert d.call("write", pair.slave, b"a\nb", 3) == 3
    assert pair.read(pair.master) == b"a\r\nb"


def test_an_end_of_file_is_read_once(d: Direct) -> None:
    pair = Pair(d)
    pair.type(b"x\x04\x04")
    assert pair.read(pair.slave) == b"x"
    assert pair.read(pair.slave) == b""
    assert pair.read(pair.slave) == "EAGAIN"


def test_without_lines_every_byte_counts(d: Direct) -> None:
    pair = Pair(d)
    pair.mode(off=2 | 8, vmin=3)
    pair.type(b"ab")
    assert pair.read(pair.slave) == "EAGAIN"
    pair.type(b"\x7fd")
    assert pair.read(pair.slave, 3) == b"ab\x7f"
    pair.mode(off=2 | 8, vmin=0)
    assert pair.read(pair.slave) == b"d"
    assert pair.read(pair.slave) == b""


def test_a_full_terminal_takes_no_more(d: Direct) -> None:
    pair = Pair(d)
    pair.mode(off=2)  # ICANON
    size = 2048
    room = d.put(b"x" * size)
    taken = 0
    while isinstance(n := d.call("write", pair.master, room, size), int):
        taken += n
    assert n == "EAGAIN"
    assert taken == 65536
    assert pair.read(pair.slave, size) == b"x" * size
    assert d.call("write", pair.master, room, size) == size
    left = d.room(4)
    assert d.call("ioctl", pair.master, FIONREAD, left) == 0
    assert d.get(left, 4) == struct.pack("<I", 65536), "echo that nobody reads is dropped"


def test_vtime_is_how_long_a_read_waits(d: Direct) -> None:
    pair = Pair(d, O_RDWR | O_NOCTTY)
    pair.mode(off=2, vmin=0, vtime=3)
    room = d.room(8)
    wait = d.start("read", pair.slave, room, 8)
    assert isinstance(wait, Wait)
    assert wait.deadline_ns == d.k.now_ns() + 300_000_000
    d.idle(300_000_000)
    assert d.retry("deadline") == 0


def test_control_c_is_for_the_foreground(d: Direct) -> None:
    pair = Pair(d, O_RDWR)  # becomes the controlling terminal of the session leader
    group = d.room(4)
    assert d.call("ioctl", pair.slave, TIOCGPGRP, group) == 0
    assert struct.unpack("<I", d.get(group, 4)) == (d.t.process.pgid,)
    pair.type(b"typed\x03")
    assert [p.signo for p in d.t.process.pending] == [SIGNALS["SIGINT"]]
    pair.type(b"\n")
    assert pair.read(pair.slave) == b"\n"  # earlier input is flushed
    assert d.open("/dev/tty", O_RDWR) >= 0


def test_the_background_may_not_read(d: Direct) -> None:
    pair = Pair(d, O_RDWR)
    d.t.process.parent = parent = type(d.t.process)(9, None, d.t.process.sighand, {}, pgid=9)
    parent.sid = d.t.process.sid  # the group is not orphaned
    d.k.sandbox.pts.entries[pair.path.rpartition("/")[2]].foreground = 9
    with pytest.raises(Interrupted):
        pair.read(pair.slave)
    assert [p.signo for p in d.t.process.pending] == [SIGNALS["SIGTTIN"]]
    d.t.process.parent = None  # the group is orphaned
    assert pair.read(pair.slave) == "EIO"


def test_a_new_size_is_told_of(d: Direct) -> None:
    pair = Pair(d, O_RDWR)
    size = struct.pack("<4H", 50, 132, 0, 0)
    d.k.processes[d.t.pid].sighand.actions.clear()
    d.call("rt_sigaction", SIGNALS["SIGWINCH"], struct.pack("<3Q", 0x1000, 0, 0), 0, 8)
    assert d.call("ioctl", pair.master, TIOCSWINSZ, size) == 0
    assert [p.signo for p in d.t.process.pending] == [SIGNALS["SIGWINCH"]]
    room = d.room(8)
    d.call("ioctl", pair.slave, TIOCGWINSZ, room)
    assert d.get(room, 8) == size


def test_ends_that_are_gone(d: Direct) -> None:
    pair = Pair(d, O_RDWR)
    d.call("close", pair.slave)
    assert pair.read(pair.master) == "EIO"
    again = d.open(pair.path, O_RDWR | O_NONBLOCK)
    assert pair.read(pair.master) == "EAGAIN"
    d.call("close", pair.master)
    assert pair.read(again) == b""
    assert d.call("write", again, b"x", 1) == "EIO"
    assert {p.signo for p in d.t.process.pending} >= {SIGNALS["SIGHUP"]}
    assert d.open(pair.path, O_RDWR) == "ENOENT"


def test_the_peer_by_its_master(d: Direct) -> None:
    master = d.open("/dev/ptmx", O_RDWR)
    slave = d.call("ioctl", master, TIOCGPTPEER, O_RDWR | O_NOCTTY)
    assert d.call("write", slave, b"x", 1) == 1
    left = d.room(4)
    assert d.call("ioctl", master, FIONREAD, left) == 0
    assert d.get(left, 4) == b"\1\0\0\0"


@given(st.lists(st.binary(max_size=12), max_size=8), st.integers(1, 9))
def test_raw_input_arrives_as_it_was_typed(chunks: list[bytes], n: int) -> None:
    line = Discipline()
    line.set(TERMIOS.pack(0, 0, 0, 0, 0, bytes(19)))
    for chunk in chunks:
        assert line.typed(chunk) == []
    got = b""
    while data := line.peek(n):
        line.advance(len(data))
        got += data
    assert got == b"".join(chunks)
    assert line.echoed == b""


def test_its_mode_and_times_can_be_changed(d: Direct) -> None:
    pty = Pair(d)
    assert d.at("fchmodat", pty.path, 0o620) == 0
    assert d.stat(pty.path)["mode"] & 0o777 == 0o620
    assert d.at("utimensat", pty.path, 0, 0) == 0
