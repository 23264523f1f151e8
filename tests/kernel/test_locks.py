"""File locks of flock and fcntl: which locks conflict, and when they are released."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from direct import Direct

from shstk.tracer.kernel.call import Wait

GETLK, SETLK, SETLKW, OFD_GETLK, OFD_SETLK = 5, 6, 7, 36, 37
RDLCK, WRLCK, UNLCK = 0, 1, 2
SH, EX, NB, UN = 1, 2, 4, 8
RDWR, CREAT = 2, 0o100
FORM = struct.Struct("<hh4xqqi4x")


@pytest.fixture
def d() -> Direct:
    return Direct()


def opened(d: Direct) -> int:
    fd = d.open("/tmp/f", RDWR | CREAT)
    assert isinstance(fd, int)
    return fd


def lock(d: Direct, fd: int, command: int, kind: int, start: int = 0, length: int = 0) -> Any:
    return d.call("fcntl", fd, command, FORM.pack(kind, 0, start, length, 0))


def asked(d: Direct, fd: int, kind: int, start: int, length: int, command: int = GETLK) -> Any:
    at = d.put(FORM.pack(kind, 0, start, length, 0))
    assert d.call("fcntl", fd, command, at) == 0
    return FORM.unpack(d.get(at, FORM.size))


def test_flock_is_of_the_description(d: Direct) -> None:
    one, other = opened(d), opened(d)
    twin = d.call("dup", one)
    assert d.call("flock", one, SH) == 0
    assert d.call("flock", other, SH | NB) == 0
    assert d.call("flock", other, EX | NB) == "EAGAIN"
    assert d.call("flock", one, UN) == 0
    assert d.call("flock", other, EX | NB) == 0
    assert isinstance(d.call("flock", twin, EX), Wait)
    d.call("close", other)
    assert d.call("flock", twin, EX) == 0
    d.call("close", one)
    third = opened(d)
    assert d.call("flock", third, SH | NB) == "EAGAIN"  # its duplicate still holds it
    d.call("close", twin)
    assert d.call("flock", third, SH | NB) == 0
    assert d.call("flock", third, 3) == "EINVAL"


def test_ranges_of_descriptions(d: Direct) -> None:
    one, other = opened(d), opened(d)
    assert lock(d, one, OFD_SETLK, WRLCK, 0, 100) == 0
    assert lock(d, one, OFD_SETLK, UNLCK, 40, 20) == 0
    assert lock(d, other, OFD_SETLK, RDLCK, 40, 20) == 0
    assert lock(d, other, OFD_SETLK, RDLCK, 39, 1) == "EAGAIN"
    assert asked(d, other, RDLCK, 30, 0, OFD_GETLK) == (WRLCK, 0, 0, 40, -1)
    assert asked(d, other, RDLCK, 50, 5, OFD_GETLK)[0] == UNLCK
    assert lock(d, one, OFD_SETLK, WRLCK, 100, 5) == 0  # merged with 60..99
    assert asked(d, other, RDLCK, 70, 1, OFD_GETLK) == (WRLCK, 0, 60, 45, -1)
    assert d.call("flock", other, EX | NB) == 0  # the two kinds don't conflict


def test_a_process_is_never_in_its_own_way_and_any_close_unlocks(d: Direct) -> None:
    one, other = opened(d), opened(d)
    assert lock(d, one, SETLK, WRLCK) == 0
    assert lock(d, other, SETLKW, RDLCK, 5, 5) == 0
    assert lock(d, other, OFD_SETLK, RDLCK) == "EAGAIN"
    kind, _, start, length, pid = asked(d, other, WRLCK, 0, 0, OFD_GETLK)
    assert (kind, start, length, pid) == (WRLCK, 0, 5, d.t.pid)
    d.call("close", d.call("dup", one))
    assert lock(d, other, OFD_SETLK, WRLCK) == 0


def test_a_deadlock_is_named(d: Direct) -> None:
    fd = opened(d)
    mine, theirs = d.t.files, d.t.files.copy()
    assert lock(d, fd, SETLK, WRLCK, 0, 1) == 0
    d.t.files = theirs
    assert lock(d, fd, SETLK, WRLCK, 1, 1) == 0
    assert isinstance(lock(d, fd, SETLKW, WRLCK, 0, 1), Wait)
    d.t.files = mine
    assert lock(d, fd, SETLKW, WRLCK, 1, 1) == "EDEADLK"


def test_what_is_refused(d: Direct) -> None:
    fd = d.open("/tmp/g", CREAT)
    assert lock(d, fd, SETLK, WRLCK) == "EBADF"
    assert lock(d, fd, SETLK, RDLCK, -1) == "EINVAL"
    assert lock(d, fd, SETLK, 7) == "EINVAL"
    assert lock(d, fd, SETLK, RDLCK, 2**63 - 1, 2) == "EOVERFLOW"
