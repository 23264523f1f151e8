"""signalfd: blocked signals, read from a descriptor."""

from __future__ import annotations

import struct

import pytest
from direct import Direct
from guest_run import run

from shstk.tracer.kernel.call import Wait
from shstk.tracer.kernel.signal.signals import SIGNAL_FILES

SIGUSR1, SIGUSR2, SIGKILL, SI_USER, SI_QUEUE = 10, 12, 9, 0, -1


@pytest.fixture
def d() -> Direct:
    direct = Direct()
    direct.t.sigmask = 1 << SIGUSR1 - 1 | 1 << SIGUSR2 - 1
    return direct


def mask(*signals: int) -> bytes:
    return sum(1 << signo - 1 for signo in signals).to_bytes(8, "little")


def fields(d: Direct, fd: int) -> list[tuple[int, int, int, int]]:
    """(signo, code, pid, int) of all pending signals."""
    data = d.read(fd)
    assert isinstance(data, bytes)
    return [
        (*struct.unpack_from("<I4xiI", data, at), struct.unpack_from("<i", data, at + 44)[0])
        for at in range(0, len(data), 128)
    ]


def test_a_read_takes_what_the_mask_names(d: Direct) -> None:
    fd = d.call("signalfd4", -1, mask(SIGUSR1), 8, 0)
    pid = d.t.pid
    d.call("kill", pid, SIGUSR2)
    assert isinstance(d.start("read", fd, d.room(128), 128), Wait)
    d.call("kill", pid, SIGUSR1)
    assert fields(d, fd) == [(SIGUSR1, SI_USER, pid, 0)]
    assert d.call("signalfd4", fd, mask(SIGUSR1, SIGUSR2), 8, 0) == fd
    info = struct.pack("<iiiiiIi", SIGUSR1, 0, SI_QUEUE, 0, pid, 1000, -5).ljust(128, b"\0")
    assert d.call("rt_sigqueueinfo", pid, SIGUSR1, info) == 0
    assert fields(d, fd) == [(SIGUSR1, SI_QUEUE, pid, -5), (SIGUSR2, SI_USER, pid, 0)]
    assert not d.t.process.pending


def test_it_can_be_polled(d: Direct) -> None:
    fd = d.call("signalfd4", -1, mask(SIGUSR1), 8, 0o4000)
    entry = d.put(struct.pack("<iHH", fd, 1, 0))
    assert isinstance(d.start("ppoll", entry, 1, 0, 0, 8), Wait)
    d.call("kill", d.t.pid, SIGUSR1)
    assert d.call("ppoll", entry, 1, 0, 0, 8) == 1
    assert len(d.read(fd)) == 128
    assert d.read(fd) == "EAGAIN"


def test_bad_arguments(d: Direct) -> None:
    assert d.call("signalfd4", -1, mask(SIGUSR1), 4, 0) == "EINVAL"
    assert d.call("signalfd4", 0, mask(SIGUSR1), 8, 0) == "EINVAL"
    fd = d.call("signalfd4", -1, mask(SIGUSR1), 8, 0)
    assert d.call("read", fd, d.room(128), 127) == "EINVAL"
    d.call("close", fd)
    assert not SIGNAL_FILES.of(d.k).opened


def test_a_sleeping_reader_is_woken_by_its_child() -> None:
    result = run("""
        sys 135, 0, set, 0, 8
        sys 74, -1, set, 8, 0
        mv s5, a0
        sys 220, 17, 0, 0, 0, 0
        beqz a0, child
        mv a0, s5
        li a1, info
        li a2, 128
        sys 63
        report a0
        li s0, info
        lw s1, 0(s0)
        report s1
        lw s1, 40(s0)
        report s1
        exit 0
    child:
        exit 7
        .align 8
    set: .dword 0x10000
    info: .zero 128
    """)
    assert (result.ending, result.words) == ("exited", [128, 17, 7])
