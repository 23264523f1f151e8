"""Message queues: System V's and POSIX's."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.call import RESTART, RESTART_NO_HAND, Wait

VM, SIGCHLD = 0x100, 17  # a child that sees the bytes that the tests put
CREAT, EXCL, NOWAIT = 0o1000, 0o2000, 0o4000
RMID, SET, STAT, MSG_STAT, MSG_INFO = 0, 1, 2, 11, 12
NOERROR, EXCEPT, COPY = 0o10000, 0o20000, 0o40000
O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_NONBLOCK = 1, 2, 0o100, 0o200, 0o4000


@pytest.fixture
def d() -> Direct:
    return Direct()


class Sleeper:
    """A call of a child that has to wait."""

    def __init__(self, d: Direct, name: str, *arguments: int | bytes) -> None:
        self.d, self.task = d, d.clone(VM | SIGCHLD)
        assert isinstance(d.start(name, *arguments, task=self.task), Wait)
        self.call = d.pending

    def answer(self, woken: str = "key") -> object:
        self.d.pending = self.call
        return self.d.retry(woken)


# System V.


def send(d: Direct, number: int, kind: int, text: bytes, flags: int = 0) -> object:
    return d.call("msgsnd", number, struct.pack("<q", kind) + text, len(text), flags)


def receive(d: Direct, number: int, kind: int = 0, room: int = 64, flags: int = NOWAIT) -> object:
    at = d.room(8 + room)
    n = d.call("msgrcv", number, at, room, kind, flags)
    if not isinstance(n, int):
        return n
    return struct.unpack("<q", d.get(at, 8))[0], d.get(at + 8, n) if n else b""


def test_messages_are_received_by_type(d: Direct) -> None:
    number = d.call("msgget", 7, CREAT | 0o600)
    assert d.call("msgget", 7, 0) == number
    assert d.call("msgget", 7, CREAT | EXCL) == "EEXIST"
    for kind, text in ((3, b"three"), (1, b"one"), (2, b""), (1, b"again")):
        assert send(d, number, kind, text) == 0
    assert receive(d, number, 1) == (1, b"one")
    assert receive(d, number, -2) == (1, b"again")
    assert receive(d, number, -3) == (2, b"")
    assert receive(d, number, 9) == "ENOMSG"
    assert receive(d, number, 3, flags=NOWAIT | EXCEPT) == "ENOMSG"
    assert receive(d, number, 0, flags=NOWAIT | COPY) == (3, b"three")
    assert receive(d, number, 0, room=2) == "E2BIG"
    assert receive(d, number, 0, room=2, flags=NOERROR) == (3, b"th")
    assert receive(d, number) == "ENOMSG"


def test_what_sysv_refuses(d: Direct) -> None:
    number = d.call("msgget", 0, 0o600)
    assert send(d, number, 0, b"x") == "EINVAL"
    assert send(d, 99, 1, b"x") == "EINVAL"
    assert d.call("msgsnd", number, struct.pack("<q", 1), 8193, 0) == "EINVAL"
    assert d.call("msgsnd", number, 8, 1, 0) == "EFAULT"
    assert receive(d, number, flags=COPY) == "EINVAL"
    assert d.call("msgctl", number, 99, 0) == "EINVAL"
    assert d.call("msgget", 8, 0) == "ENOENT"
    reading = d.call("msgget", 0, 0o400)
    assert send(d, reading, 1, b"x") == "EACCES"
    send(d, number, 1, b"lost")
    assert d.call("msgrcv", number, 8, 64, 0, 0) == "EFAULT"
    assert receive(d, number) == "ENOMSG"


def test_a_queue_is_described_and_changed(d: Direct) -> None:
    number, room = d.call("msgget", 0, 0o600), d.room(120)
    send(d, number, 1, b"abc")
    assert d.call("msgctl", number, STAT, room) == 0
    _, _, _, held, count, most, sender, receiver = struct.unpack("<3q3Qii", d.get(room + 48, 56))
    assert (held, count, most, sender, receiver) == (3, 1, 16384, d.t.pid, 0)
    perm = d.get(room, 48)
    assert d.call("msgctl", number, SET, perm + struct.pack("<3q3Q24x", *(0,) * 5, 3)) == 0
    assert send(d, number, 1, b"d", NOWAIT) == "EAGAIN"
    assert (
        d.call("msgctl", number, SET, perm + struct.pack("<3q3Q24x", *(0,) * 5, 16385)) == "EPERM"
    )
    assert d.call("msgctl", number, MSG_STAT, room) == number
    info = d.room(32)
    assert d.call("msgctl", 0, MSG_INFO, info) == number
    assert struct.unpack_from("<ii16xi", d.get(info, 32)) == (1, 1, 3)


def test_a_message_goes_to_the_receiver_that_waits_for_its_type(d: Direct) -> None:
    number, at = d.call("msgget", 0, 0o600), d.room(64)
    other = Sleeper(d, "msgrcv", number, d.room(64), 56, 2, 0)
    small = Sleeper(d, "msgrcv", number, d.room(16), 2, 0, 0)
    fitting = Sleeper(d, "msgrcv", number, at, 56, -5, 0)
    assert send(d, number, 1, b"text") == 0
    assert (small.answer(), fitting.answer()) == ("E2BIG", 4)
    assert d.get(at, 12) == struct.pack("<q", 1) + b"text"
    assert receive(d, number) == "ENOMSG"
    assert other.answer("signal") is RESTART_NO_HAND
    assert send(d, number, 2, b"for nobody now") == 0
    assert receive(d, number, 2) == (2, b"for nobody now")


def test_a_full_queue_is_waited_for(d: Direct) -> None:
    number = d.call("msgget", 0, 0o600)
    for _ in range(2):
        assert send(d, number, 1, bytes(8192)) == 0
    assert send(d, number, 1, b"x", NOWAIT) == "EAGAIN"
    text = struct.pack("<q", 4) + b"kept"
    waiting, orphan = (Sleeper(d, "msgsnd", number, text, 4, 0) for _ in range(2))
    receive(d, number, room=8192)
    assert waiting.answer() == 0
    assert receive(d, number, 4) == (4, b"kept")
    d.call("msgctl", number, RMID, 0)
    assert orphan.answer() == "EIDRM"


# POSIX.


def attr(most: int = 2, size: int = 16, flags: int = 0) -> bytes:
    return struct.pack("<4q32x", flags, most, size, 0)


def mq(d: Direct, flags: int = 0, name: bytes = b"q", **sizes: int) -> int | str:
    return d.call("mq_open", name + b"\0", O_RDWR | O_CREAT | flags, 0o600, attr(**sizes))


def mq_receive(d: Direct, fd: int) -> object:
    at, priority = d.room(16), d.room(4)
    n = d.call("mq_timedreceive", fd, at, 16, priority, 0)
    if not isinstance(n, int):
        return n
    return d.get(at, n), int.from_bytes(d.get(priority, 4), "little")


def test_the_highest_priority_comes_first(d: Direct) -> None:
    fd = mq(d, most=3)
    assert d.call("fcntl", fd, 1) == 1, "close-on-exec"
    for text, priority in ((b"low", 1), (b"high", 9), (b"high too", 9)):
        assert d.call("mq_timedsend", fd, text, len(text), priority, 0) == 0
    assert [mq_receive(d, fd) for _ in range(3)] == [(b"high", 9), (b"high too", 9), (b"low", 1)]


def test_queues_have_names(d: Direct) -> None:
    fd = mq(d)
    assert mq(d, O_EXCL) == "EEXIST"
    assert d.call("mq_open", b"other\0", O_RDWR, 0, 0) == "ENOENT"
    assert d.call("mq_open", b"\0", O_RDWR, 0, 0) == "ENOENT"
    assert d.call("mq_open", b"a/b\0", O_RDWR, 0, 0) == "EACCES"
    assert d.call("mq_open", b"n" * 256 + b"\0", O_RDWR, 0, 0) == "ENAMETOOLONG"
    assert d.call("mq_unlink", b"q\0") == 0
    assert d.call("mq_unlink", b"q\0") == "ENOENT"
    assert d.call("mq_timedsend", fd, b"x", 1, 0, 0) == 0, "it lives on"
    again = mq(d, O_NONBLOCK)
    assert mq_receive(d, again) == "EAGAIN", "another queue"


def test_what_posix_refuses(d: Direct) -> None:
    assert mq(d, most=0) == mq(d, most=11) == mq(d, size=0) == mq(d, size=8193) == "EINVAL"
    fd = mq(d, O_NONBLOCK, most=1)
    assert d.call("mq_timedsend", fd, bytes(17), 17, 0, 0) == "EMSGSIZE"
    assert d.call("mq_timedsend", fd, b"x", 1, 32768, 0) == "EINVAL"
    assert d.call("mq_timedsend", fd, b"x", 1, 0, struct.pack("<qq", 0, 10**9)) == "EINVAL"
    assert d.call("mq_timedsend", 0, b"x", 1, 0, 0) == "EBADF"
    assert d.call("mq_timedreceive", fd, d.room(8), 15, 0, 0) == "EMSGSIZE"
    reading = d.call("mq_open", b"q\0", 0, 0, 0)
    assert d.call("mq_timedsend", reading, b"x", 1, 0, 0) == "EBADF"
    assert d.call("mq_timedsend", fd, b"x", 1, 0, 0) == 0
    assert d.call("mq_timedsend", fd, b"x", 1, 0, 0) == "EAGAIN"


def test_msgqueue_limits_what_a_user_s_queues_may_hold() -> None:
    d = Direct()
    d.t.process.rlimits["MSGQUEUE"] = (2 * 10 * (8192 + 96), 0)
    sizes = {"most": 10, "size": 8192}
    first = mq(d, name=b"a", **sizes)
    assert isinstance(mq(d, name=b"b", **sizes), int)
    assert mq(d, name=b"c", **sizes) == "EMFILE"
    d.call("mq_unlink", b"a\0")
    assert mq(d, name=b"c", **sizes) == "EMFILE", "a is still open"
    d.call("close", first)
    assert isinstance(mq(d, name=b"c", **sizes), int)


def test_attributes(d: Direct) -> None:
    fd, old = mq(d), d.room(64)
    assert d.call("mq_getsetattr", fd, attr(flags=O_NONBLOCK), old) == 0
    assert struct.unpack_from("<4q", d.get(old, 32)) == (0, 2, 16, 0)
    assert mq_receive(d, fd) == "EAGAIN"
    assert d.call("mq_getsetattr", fd, attr(flags=1), 0) == "EINVAL"
    assert d.read(fd) == b"QSIZE:0          NOTIFY:0     SIGNO:0     NOTIFY_PID:0     \n"


def test_sleepers_are_served_in_order(d: Direct) -> None:
    fd, at = mq(d, most=1), d.room(16)
    reader = Sleeper(d, "mq_timedreceive", fd, at, 16, 0, 0)
    assert d.call("mq_timedsend", fd, b"handed", 6, 0, 0) == 0
    assert d.call("mq_timedsend", fd, b"queued", 6, 0, 0) == 0
    assert (reader.answer(), d.get(at, 6)) == (6, b"handed")
    first = Sleeper(d, "mq_timedsend", fd, b"first", 5, 0, 0)
    second = Sleeper(d, "mq_timedsend", fd, b"second", 6, 9, 0)
    assert mq_receive(d, fd) == (b"queued", 0)
    assert first.answer() == 0
    assert second.answer("signal") is RESTART
    assert mq_receive(d, fd) == (b"first", 0)


def test_a_notice_is_a_signal_once(d: Direct) -> None:
    fd = mq(d)
    d.t.sigmask = 1 << 9
    event = struct.pack("<Qii48x", 77, 10, 0)
    assert d.call("mq_notify", fd, event) == 0
    assert d.call("mq_notify", fd, event) == "EBUSY"
    d.call("mq_timedsend", fd, b"x", 1, 0, 0)
    d.call("mq_timedsend", fd, b"y", 1, 0, 0)
    assert [(i.signo, i.code, i.value) for i in d.t.process.pending] == [(10, -3, 77)]
    assert d.call("mq_notify", fd, event) == 0
    d.call("close", d.call("dup", fd))
    assert d.call("mq_notify", fd, event) == 0, "a close of the owner ended it"
    assert d.call("mq_notify", fd, 0) == 0
    assert d.call("mq_notify", fd, struct.pack("<Qii48x", 0, 65, 0)) == "EINVAL"
    assert d.call("mq_notify", fd, struct.pack("<Qii48x", 0, 0, 9)) == "EINVAL"
    assert d.call("mq_notify", fd, struct.pack("<Qii48x", 0, 0, 2)) == "EBADF"


def test_a_deadline_on_the_real_time_clock() -> None:
    """It has passed; then a millisecond from now, while a reader polls the queue."""
    result = run("""
        sys 180, name, 0x42, 0x180, 0
        mv s5, a0
        mv a0, s5
        li a1, room
        li a2, 8192
        li a3, 0
        li a4, past
        sys 183
        report a0
        sys 113, 0, soon
        li s0, soon
        ld s1, 8(s0)
        addi s1, s1, 1000
        sd s1, 8(s0)
        mv a0, s5
        li a1, room
        li a2, 8192
        li a3, 0
        li a4, soon
        sys 183
        report a0
        exit 0
        .align 8
    name: .dword 0x71
    past: .dword 1, 0
    soon: .dword 0, 0
    room: .dword 0
        .zero 8192
    """)
    assert (result.ending, result.words) == ("exited", [2**64 - 110] * 2)
