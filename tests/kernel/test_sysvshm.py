"""System V shared memory: segments found by key, attached, shared and removed."""

from __future__ import annotations

import struct

import pytest
from direct import Direct

CREAT, EXCL, RDONLY, RND = 0o1000, 0o2000, 0o10000, 0o20000
HUGETLB, REMAP = 0o4000, 0o40000
RMID, SET, STAT, IPC_INFO, SHM_LOCK, SHM_UNLOCK = 0, 1, 2, 3, 11, 12
SHM_STAT, SHM_INFO, SHM_STAT_ANY = 13, 14, 15
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


def test_a_segment_is_detached_though_its_first_page_is_gone(d: Direct) -> None:
    """shmdt looks for any area whose offset fits the address, from the address upwards."""
    number = d.call("shmget", 0, 3 * PAGE, CREAT | 0o600)
    at = d.call("shmat", number, 0, 0)
    assert d.call("munmap", at, PAGE) == 0
    assert d.call("mprotect", at + PAGE, PAGE, 1) == 0
    assert users(d, number) == 2
    assert d.call("shmdt", at + PAGE) == "EINVAL"
    assert d.call("shmdt", at) == 0
    assert users(d, number) == 0
    assert d.call("shmdt", at) == "EINVAL"


def test_what_ipcs_asks(d: Direct) -> None:
    """IPC_INFO, SHM_INFO, and each segment by its index."""
    room = d.room(112)
    assert d.call("shmctl", 0, SHM_INFO, room) == 0
    numbers = [d.call("shmget", 0, size, CREAT | 0o600) for size in (5000, PAGE)]
    assert d.call("shmctl", 0, IPC_INFO, room) == numbers[-1]
    limits = struct.unpack("<5Q", d.get(room, 40))
    assert limits == (2**64 - 2**24 - 1, 1, 4096, 4096, 2**64 - 2**24 - 1)
    assert d.call("shmctl", 0, SHM_INFO, room) == numbers[-1]
    assert struct.unpack("<i4xQ", d.get(room, 16)) == (2, 3)
    assert [d.call("shmctl", index, SHM_STAT, room) for index in (0, 1, 2)] == [*numbers, "EINVAL"]
    assert d.call("shmctl", numbers[0], SHM_STAT_ANY, room) == numbers[0]
    text = d.text("/proc/sysvipc/shm")
    lines = [line.split() for line in text.decode().splitlines()[1:]]
    assert [(row[1], row[2], row[3]) for row in lines] == [
        ("0", "600", "5000"),
        ("1", "600", "4096"),
    ]


def test_a_locked_segment(d: Direct) -> None:
    number, room = d.call("shmget", 0, PAGE, CREAT | 0o600), d.room(112)
    assert d.call("shmctl", number, SHM_LOCK, 0) == 0
    assert d.call("shmctl", number, STAT, room) == 0
    assert struct.unpack_from("<I", d.get(room, 24), 20) == (0o2600,)
    assert d.call("shmctl", number, SHM_UNLOCK, 0) == 0
    d.t.process.rlimits["MEMLOCK"] = (PAGE - 1, PAGE)
    assert d.call("shmctl", number, SHM_LOCK, 0) == "ENOMEM"
    d.t.process.rlimits["MEMLOCK"] = (0, 0)
    assert d.call("shmctl", number, SHM_LOCK, 0) == "EPERM"


@pytest.mark.parametrize(
    ("call", "arguments", "answer"),
    [
        ("shmget", (9, PAGE, 0), "ENOENT"),
        ("shmget", (7, PAGE, CREAT | EXCL), "EEXIST"),
        ("shmget", (7, 2 * PAGE, 0), "EINVAL"),
        ("shmget", (7, PAGE, 0o200), "EACCES"),
        ("shmget", (0, 0, CREAT), "EINVAL"),
        ("shmget", (0, -1, CREAT), "EINVAL"),
        ("shmget", (0, PAGE, CREAT | HUGETLB), "ENOMEM"),
        ("shmat", (99, 0, 0), "EINVAL"),
        ("shmat", (0, 0, REMAP), "EINVAL"),
        ("shmat", (0, 0, 0), "EACCES"),
        ("shmdt", (0,), "EINVAL"),
        ("shmctl", (-1, STAT, 8), "EINVAL"),
        ("shmctl", (99, STAT, 8), "EINVAL"),
        ("shmctl", (0, 99, 8), "EINVAL"),
        ("shmctl", (0, -1, 8), "EINVAL"),
        ("shmctl", (0, STAT, 8), "EFAULT"),
        ("shmctl", (99, SET, 8), "EFAULT"),
        ("shmctl", (0, IPC_INFO, 8), "EFAULT"),
        ("shmctl", (0, SHM_INFO, 8), "EFAULT"),
        ("shmctl", (99, SHM_LOCK, 0), "EINVAL"),
    ],
)
def test_what_is_refused(d: Direct, call: str, arguments: tuple[int, ...], answer: str) -> None:
    assert d.call("shmget", 7, PAGE, CREAT | 0o400) == 0
    assert d.call(call, *arguments) == answer
