"""/proc's views of memory: status, smaps_rollup, pagemap, PROCMAP_QUERY, sysvipc/shm."""

from __future__ import annotations

import re
import struct
from typing import Any

import pytest
from direct import Direct

from shstk.schemas.uapi import (
    MADV_GUARD_INSTALL,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PAGE,
)

PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS
A = 0x4000_0000


@pytest.fixture
def d() -> Direct:
    return Direct()


def area(d: Direct, at: int, pages: int, prot: int = 3, flags: int = PRIVATE) -> None:
    assert d.call("mmap", at, pages * PAGE, prot, flags | MAP_FIXED, -1, 0) == at


def status(d: Direct) -> dict[str, int]:
    d.next = d.base
    text = d.text("/proc/self/status").decode()
    return {name: int(kb) for name, kb in re.findall(r"^(\w+):\t *(\d+) kB$", text, re.M)}


def test_status_follows_what_is_mapped_and_touched(d: Direct) -> None:
    status(d)  # has touched where it is read to
    before = status(d)
    area(d, A, 10)
    area(d, A + 0x100000, 3, prot=5)
    area(d, A + 0x200000, 2, flags=SHARED)
    d.call("map_shadow_stack", 0, PAGE, 0)
    assert d.mm.space.write(A, b"x" * 2 * PAGE)
    assert d.mm.space.write(A + 0x200000, b"x")
    after = status(d)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown == {
        "VmPeak": 64,
        "VmSize": 64,
        "VmHWM": 12,
        "VmRSS": 12,
        "RssAnon": 8,
        "RssShmem": 4,
        "VmData": 40,
        "VmStk": 4,
        "VmLib": 12,
    }
    assert d.call("munmap", A, 10 * PAGE) == 0
    assert status(d)["VmPeak"] == after["VmPeak"]
    assert status(d)["VmSize"] == after["VmSize"] - 40
    assert b"\nuntag_mask:\t0xffffffffffffffff\n" in d.text("/proc/self/status")


def test_rollup_is_the_sum_of_smaps(d: Direct) -> None:
    d.mm.space.write(d.base, b"x" * 3 * PAGE)
    text = d.text("/proc/self/smaps_rollup").decode()
    assert re.match(r"[0-9a-f]{8}-[0-9a-f]{12} ---p 00000000 00:00 0 +\[rollup\]\n", text)
    rollup = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.M))
    assert list(rollup)[:6] == ["Rss", "Pss", "Pss_Dirty", "Pss_Anon", "Pss_File", "Pss_Shmem"]
    assert int(rollup["Rss"]) == int(rollup["Pss_Anon"]) + int(rollup["Pss_File"])


def entries(d: Direct, at: int, pages: int) -> list[int]:
    fd = d.open("/proc/self/pagemap")
    assert d.call("lseek", fd, at // PAGE * 8, 0) == at // PAGE * 8
    return list(struct.unpack(f"<{pages}Q", d.read(fd, 8 * pages)))


def test_pagemap(d: Direct) -> None:
    area(d, A, 4)
    assert d.mm.space.write(A + PAGE, b"x")
    assert d.call("madvise", A + 2 * PAGE, PAGE, MADV_GUARD_INSTALL) == 0
    assert entries(d, A, 4) == [0, 1 << 63, 1 << 62 | 1 << 58, 0]
    area(d, A, 1, flags=SHARED)
    assert d.mm.space.write(A, b"x")
    assert entries(d, A, 1) == [1 << 63 | 1 << 61]
    fd = d.open("/proc/self/pagemap")
    assert d.read(fd, 7) == "EINVAL"
    assert d.call("pread64", fd, d.base, 8, 4) == "EINVAL"
    assert d.call("pread64", fd, d.base, 8, 2**47) == 0
    assert d.open("/proc/self/pagemap", 2) == "EACCES"


QUERY = struct.Struct("<9Q4I2Q")
COVERING_OR_NEXT, FILE_BACKED = 16, 32


def query(
    d: Direct, address: int, flags: int = 0, room: int = 0, size: int = 104, id_room: int = 0
) -> Any:
    """(start, end, flags, page size, offset, inode, major, minor, sizes of both), name, id."""
    fd = d.open("/proc/self/maps")
    name, build_id = (d.room(max(n, 1)) for n in (room, id_room))
    addresses = (name * bool(room), build_id * bool(id_room))
    given = QUERY.pack(size, flags, address, *(0,) * 6, 0, 0, room, id_room, *addresses)
    at = d.put(given.ljust(size, b"\0"))
    if (answer := d.call("ioctl", fd, 0xC068_6611, at)) != 0:
        return answer
    fields = QUERY.unpack(d.get(at, 104))
    return fields[3:13], d.get(name, room)[: max(fields[11] - 1, 0)], d.get(build_id, fields[12])


def test_an_area_is_asked_for(d: Direct) -> None:
    area(d, A, 2, prot=1, flags=SHARED)
    [vma] = d.mm.vmas.touching(A, A + PAGE)
    assert vma.file is not None
    found, name, _ = query(d, A + PAGE, room=64)
    ino = vma.file.inode.ino
    assert found == (A, A + 2 * PAGE, 1 | 8, PAGE, 0, ino, 0, 1, len(name) + 1, 0)
    assert name == b"/dev/zero (deleted)"
    assert query(d, A + 2 * PAGE) == "ENOENT"
    stack = next(v for v in d.mm.vmas if v.grows_down)
    assert query(d, stack.end - 1, room=64)[1] == b"[stack]"
    assert query(d, A - 1, COVERING_OR_NEXT)[0][0] == A
    assert query(d, A, COVERING_OR_NEXT | 2)[0][0] > A, "the next that is writable"
    assert query(d, 0, COVERING_OR_NEXT | FILE_BACKED, room=64)[1] == b"/guest"
    assert query(d, 2**56, COVERING_OR_NEXT) == "ENOENT"


def test_what_a_query_must_be(d: Direct) -> None:
    area(d, A, 1, flags=SHARED)
    assert query(d, A, size=16) == "EINVAL"
    assert query(d, A, size=PAGE + 8) == "E2BIG"
    assert query(d, A, size=24) == ((0,) * 10, b"", b""), "only what there is room for"
    assert query(d, A, 64) == "EINVAL"
    assert query(d, A, room=8) == "ENAMETOOLONG"
    fd = d.open("/proc/self/maps")
    assert d.call("ioctl", fd, 0xC068_6611, 8) == "EFAULT"
    assert d.call("ioctl", d.open("/proc/self/smaps"), 0xC068_6611, d.base) == "ENOTTY"


def test_segments_are_listed(d: Direct) -> None:
    number = d.call("shmget", 7, 5000, 0o1640)
    assert d.call("shmat", number, 0, 0) > 0
    head, row = d.text("/proc/sysvipc/shm").decode().splitlines()
    assert head.split()[:7] == ["key", "shmid", "perms", "size", "cpid", "lpid", "nattch"]
    pid = str(d.t.pid)
    assert row.split()[:7] == ["7", str(number), "640", "5000", pid, pid, "1"]
    assert row.index("5000") + 4 == head.index("size") + 4
    assert d.text("/proc/sys/kernel/shmmni") == b"4096\n"
    assert d.text("/proc/sys/kernel/core_pattern") == b"core\n"


def test_heap_and_stack_are_names_of_places(d: Direct) -> None:
    """vma_is_initial_heap: also of what is mapped beside the break, and merged with it."""
    start = d.mm.brk_start
    assert d.call("brk", start + PAGE) == start + PAGE
    area(d, start + PAGE, 1)
    [heap] = [line for line in d.text("/proc/self/maps").splitlines() if line.endswith(b"[heap]")]
    assert heap.startswith(f"{start:08x}-{start + 2 * PAGE:08x}".encode())
