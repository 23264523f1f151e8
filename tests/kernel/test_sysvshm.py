"""System V shared memory: segments found by key, attached, shared and removed."""

from __future__ import annotations

import struct

import pytest
from direct import Direct

CREAT, EXCL, RDONLY, RND = 0o1000, 0o2000, 0o10000, 0o20000
RMID, STAT = 0, 2
PAGE = 4096


@pytest.fixture
def d() -> Direct:
    return Direct()


def users(d: Direct, number: int) -> int:
    room = d.room(112)
    assert d.call("shmctl", number, STAT, room) == 0
    return int(struct.unpack_from("<Q", d.get(room, 112), 88)[0])


def test_a_segment_is_one_wherever_it_is_attached(d: Direct) -> None:
    number = d.call("shmget", 7, 5000, CREAT | EXCL | 0o600)
    assert d.call("shmget", 7, 100, 0) == number
    assert d.call("shmget", 7, 100, CREAT | EXCL) == "EEXIST"
    assert d.call("shmget", 7, 5001, 0) == "EINVAL"
    assert d.call("shmget", 8, 100, 0) == "ENOENT"
    one, other = (d.call("shmat", number, 0, 0) for _ in range(2))
    assert one != other
    assert users(d, number) == 2
    d.mm.space.write(one + 4500, b"seen")
    assert d.get(other + 4500, 4) == b"seen"
    child = d.mm.copy(99, d.mm.birth)
    assert child.space.read(other + 4500, 4) == b"seen"
    child.space.write(one, b"back")
    assert d.get(other, 4) == b"back"


def test_it_is_described(d: Direct) -> None:
    number = d.call("shmget", 7, 5000, CREAT | 0o640)
    room = d.room(112)
    assert d.call("shmctl", number, STAT, room) == 0
    data = d.get(room, 112)
    key, uid, _, _, _, mode = struct.unpack_from("<6I", data)
    assert (key, uid, mode) == (7, 1000, 0o640)
    assert struct.unpack_from("<Q", data, 48)[0] == 5000
    assert struct.unpack_from("<ii", data, 80) == (d.t.pid, 0)


def test_it_is_removed_after_its_last_user(d: Direct) -> None:
    number = d.call("shmget", 0, PAGE, CREAT | 0o600)
    at = d.call("shmat", number, 0, 0)
    assert d.call("shmctl", number, RMID, 0) == 0
    assert users(d, number) == 1
    assert d.call("shmdt", at + 8) == "EINVAL"
    assert d.call("shmdt", at) == 0
    assert d.mm.space.read(at, 1) is None
    assert d.call("shmat", number, 0, 0) == "EINVAL"


def test_where_it_is_attached(d: Direct) -> None:
    number = d.call("shmget", 0, PAGE, CREAT | 0o400)
    assert d.call("shmat", number, 0, 0) == "EACCES"
    assert d.call("shmat", number, 0x5000_0123, RDONLY) == "EINVAL"
    assert d.call("shmat", number, 0x5000_0123, RDONLY | RND) == 0x5000_0000
    assert d.call("shmat", number, 0x5000_0000, RDONLY) == "EINVAL"
    assert not d.mm.space.write(0x5000_0000, b"x")
