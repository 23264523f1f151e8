"""mlock and its kin: what is locked, what is in memory, and the limit."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from direct import Direct

from shstk.schemas.uapi import (
    MADV_COLD,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_PAGEOUT,
    MAP_ANONYMOUS,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    MLOCK_ONFAULT,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_INVALIDATE,
    PAGE,
)
from shstk.tracer.kernel.proc.memtext import vm_flags
from shstk.tracer.kernel.process.clone import dup_mm

PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS
O_RDWR, O_CREAT = 2, 0o100


@pytest.fixture
def d() -> Direct:
    return Direct()


def area(d: Direct, pages: int, prot: int = 3, flags: int = PRIVATE) -> int:
    return int(d.call("mmap", 0, pages * PAGE, prot, flags, -1, 0))


def limit(d: Direct, size: int) -> None:
    d.t.process.rlimits["MEMLOCK"] = (size, size)


def flags(d: Direct, at: int) -> set[str]:
    vma = d.mm.vmas.find(at)
    assert vma is not None
    return set(vm_flags(vma).split())


def resident(d: Direct, at: int, pages: int) -> int:
    return d.mm.space.resident(at, pages * PAGE)


@pytest.mark.parametrize(
    ("prot", "kind", "there"),
    [(3, PRIVATE, 4), (3, SHARED, 4), (1, SHARED, 4), (1, PRIVATE, 0)],  # 0: the zero page
)
def test_locked_pages_are_there(d: Direct, prot: int, kind: int, there: int) -> None:
    at = area(d, 4, prot, kind)
    assert d.call("mlock", at + 1, 3 * PAGE) == 0
    assert resident(d, at, 4) == there
    assert "lo" in flags(d, at)
    assert d.call("munlock", at, 4 * PAGE) == 0
    assert resident(d, at, 4) == there
    assert "lo" not in flags(d, at)


def test_a_shadow_stack_can_be_locked(d: Direct) -> None:
    at = int(d.call("map_shadow_stack", 0, 2 * PAGE, 0))
    assert d.call("mlock", at, 2 * PAGE) == 0
    assert resident(d, at, 2) == 2
    assert {"lo", "ss"} <= flags(d, at)


def test_what_can_not_be_had(d: Direct) -> None:
    """__mlock_posix_error_return: no access is ENOMEM; the area is locked all the same."""
    none, hole = area(d, 1, prot=0), area(d, 3)
    assert d.call("mlock", none, PAGE) == "ENOMEM"
    assert "lo" in flags(d, none)
    assert d.call("munmap", hole + PAGE, PAGE) == 0
    assert d.call("mlock", hole, 3 * PAGE) == "ENOMEM"
    assert "lo" in flags(d, hole)
    assert "lo" not in flags(d, hole + 2 * PAGE)
    assert resident(d, hole, 1) == 0
    fd = d.open("/tmp/x", O_RDWR | O_CREAT)
    assert d.call("ftruncate", fd, 1) == 0
    file = int(d.call("mmap", 0, 2 * PAGE, 1, MAP_SHARED, fd, 0))
    assert d.call("mlock", file, 2 * PAGE) == "ENOMEM", "a page past the file's end"
    assert d.call("mlock", 2**64 - PAGE, PAGE) == "EINVAL"
    assert d.call("mlock", file, 0) == 0
    assert d.call("munlock", hole, 3 * PAGE) == "ENOMEM"


def test_the_limit(d: Direct) -> None:
    at = area(d, 8)
    limit(d, 4 * PAGE)
    assert d.call("mlock", at, 5 * PAGE) == "ENOMEM"
    assert d.call("mlock", at, 4 * PAGE) == 0
    assert d.call("mlock", at, 4 * PAGE) == 0, "what is locked counts once"
    assert d.call("mlock", at + 4 * PAGE, PAGE) == "ENOMEM"
    assert d.call("mmap", 0, PAGE, 3, PRIVATE | MAP_LOCKED, -1, 0) == "EAGAIN"
    assert d.call("mremap", at, PAGE, 2 * PAGE, MREMAP_MAYMOVE) == "EAGAIN"
    assert d.call("mlockall", MCL_CURRENT) == "ENOMEM"
    assert d.call("munmap", at, PAGE) == 0
    assert d.call("mlock", at + 4 * PAGE, PAGE) == 0
    limit(d, 0)
    for call in (("mlock", at, PAGE), ("mlock2", at, PAGE, 0), ("mlockall", MCL_FUTURE)):
        assert d.call(*call) == "EPERM"
    assert d.call("mmap", 0, PAGE, 3, PRIVATE | MAP_LOCKED, -1, 0) == "EPERM"


def test_on_fault(d: Direct) -> None:
    at = area(d, 2)
    assert d.call("mlock2", at, PAGE, 2) == "EINVAL"
    assert d.call("mlock2", at, 2 * PAGE, MLOCK_ONFAULT) == 0
    assert resident(d, at, 2) == 0
    assert {"lo", "lf"} <= flags(d, at)
    assert d.call("mlock2", at, PAGE, 0) == 0
    assert resident(d, at, 2) == 1
    assert "lf" not in flags(d, at)


def test_all_of_it(d: Direct) -> None:
    before = area(d, 1)
    for bad in (0, MCL_ONFAULT, 8):
        assert d.call("mlockall", bad) == "EINVAL"
    assert d.call("mlockall", MCL_FUTURE) == 0
    after = area(d, 2)
    assert (resident(d, before, 1), resident(d, after, 2)) == (0, 2)
    segment = d.call("shmat", d.call("shmget", 0, 2 * PAGE, 0o1600), 0, 0)
    assert resident(d, segment, 2) == 2
    assert d.call("mlockall", MCL_CURRENT) == 0
    assert resident(d, before, 1) == 1
    assert resident(d, area(d, 1), 1) == 0, "MCL_FUTURE is over"
    assert "lo" not in flags(d, d.mm.sigreturn)
    child = dup_mm(d.k, d.mm)
    assert child.vmas.locked == 0
    assert d.call("munlockall") == 0
    assert d.mm.vmas.locked == 0


def test_the_break_and_the_stack_lock_what_they_grow_by(d: Direct) -> None:
    assert d.call("mlockall", MCL_CURRENT | MCL_FUTURE) == 0
    start = d.mm.brk
    assert d.call("brk", start + 3 * PAGE) == start + 3 * PAGE
    assert resident(d, start, 3) == 3
    [stack] = [v for v in d.mm.vmas if v.grows_down]
    assert d.mm.grow_stack(d.k, d.t, stack.start - 5 * PAGE)
    assert resident(d, stack.start - 5 * PAGE, 5) == 5
    limit(d, d.mm.vmas.locked)
    assert d.call("brk", start + 4 * PAGE) == start + 3 * PAGE
    assert not d.mm.grow_stack(d.k, d.t, stack.start - 6 * PAGE)


def test_a_locked_area_moves_and_grows_with_its_pages(d: Direct) -> None:
    at = area(d, 1)
    assert d.call("mlock", at, PAGE) == 0
    area(d, 1)
    to = d.call("mremap", at, PAGE, 4 * PAGE, MREMAP_MAYMOVE)
    assert resident(d, to, 4) == 4
    assert d.mm.vmas.locked == 4 * PAGE


@pytest.mark.parametrize(
    "advice", [MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_GUARD_INSTALL]
)
def test_advice_that_a_locked_area_refuses(d: Direct, advice: int) -> None:
    """What comes before it in the range is done."""
    at = area(d, 3)
    assert d.mm.space.write(at, b"1" * 3 * PAGE)
    assert d.call("mlock", at + PAGE, PAGE) == 0
    assert d.call("madvise", at, 3 * PAGE, advice) == "EINVAL"
    first = {MADV_DONTNEED: b"\0", MADV_GUARD_INSTALL: None}.get(advice, b"1")
    assert [d.mm.space.read(at + i * PAGE, 1) for i in range(3)] == [first, b"1", b"1"]
    assert d.call("madvise", at + PAGE, PAGE, MADV_DONTNEED_LOCKED) == 0
    assert d.mm.space.read(at + PAGE, 1) == b"\0"


def test_msync_does_not_invalidate_it(d: Direct) -> None:
    at = area(d, 2, flags=SHARED)
    assert d.call("msync", at, 2 * PAGE, MS_INVALIDATE) == 0
    assert d.call("mlock", at + PAGE, PAGE) == 0
    assert d.call("msync", at, 2 * PAGE, MS_INVALIDATE) == "EBUSY"
    assert d.call("msync", at, 2 * PAGE, MS_ASYNC) == 0


def smaps(d: Direct, at: int) -> dict[str, int]:
    d.next = d.base
    text = b""
    fd = d.open("/proc/self/smaps")
    while piece := d.read(fd):
        text, d.next = text + piece, d.base
    of = next(part for part in text.decode().split("VmFlags")[:-1] if f"{at:08x}-" in part)
    lines = (line.split() for line in of.splitlines() if line.endswith("kB"))
    return {name.rstrip(":"): int(value) for name, value, _ in lines}


def test_smaps_and_status_say_it(d: Direct) -> None:
    at = area(d, 4)
    assert d.call("mlock", at, 4 * PAGE) == 0
    sizes = smaps(d, at)
    assert (sizes["Rss"], sizes["Locked"], sizes["Anonymous"]) == (16, 16, 16)
    assert b"VmLck:\t      16 kB\n" in d.text("/proc/self/status")


def test_populate(d: Direct) -> None:
    assert resident(d, area(d, 3, flags=PRIVATE | MAP_POPULATE), 3) == 3
    assert resident(d, area(d, 3, flags=SHARED | MAP_POPULATE), 3) == 3
    assert resident(d, area(d, 3, prot=0, flags=PRIVATE | MAP_POPULATE), 3) == 0
    assert resident(d, area(d, 3, flags=PRIVATE | MAP_POPULATE | 0x10000), 3) == 0  # NONBLOCK


def mincore(d: Direct, at: int, pages: int) -> list[int]:
    room = d.room(pages)
    assert d.call("mincore", at, pages * PAGE, room) == 0
    return list(d.get(room, pages))


def test_mincore(d: Direct) -> None:
    """A file's pages are in memory whether this mapping has touched them or not."""
    at = area(d, 3)
    assert d.call("mlock", at + PAGE, PAGE) == 0
    assert mincore(d, at, 3) == [0, 1, 0]
    fd = d.open("/tmp/x", O_RDWR | O_CREAT)
    assert d.write(fd, b"x" * (PAGE + 1)) == PAGE + 1
    file = int(d.call("mmap", 0, 3 * PAGE, 3, MAP_PRIVATE, fd, 0))
    assert mincore(d, file, 3) == [1, 1, 0]
    shared = area(d, 2, flags=SHARED)
    child = dup_mm(d.k, d.mm)
    assert child.space.write(shared, b"x")
    assert mincore(d, shared, 2) == [1, 0]
    assert d.call("mincore", at, 3 * PAGE, 8) == "EFAULT"


def test_shared_memory_segments_are_locked_by_number(d: Direct) -> None:
    number = d.call("shmget", 0, 2 * PAGE, 0o1600)
    room = d.room(112)

    def mode() -> Any:
        assert d.call("shmctl", number, 2, room) == 0
        return struct.unpack_from("<I", d.get(room, 112), 20)[0]

    assert d.call("shmctl", number, 11, 0) == 0
    assert mode() == 0o2600
    assert d.call("shmctl", number, 12, 0) == 0
    assert mode() == 0o600
    limit(d, PAGE)
    assert d.call("shmctl", number, 11, 0) == "ENOMEM"
    limit(d, 0)
    assert d.call("shmctl", number, 11, 0) == "EPERM"
