"""MAP_SHARED of files: mappings, read and write see the same contents."""

from __future__ import annotations

from pathlib import Path

from direct import Direct

from shstk.schemas.uapi import MS_SYNC
from shstk.tracer.kernel.mm.sharedmem import note_stores

O_RDWR, O_CREAT = 2, 0o100
READ, WRITE, SHARED = 1, 2, 1
PAGE = 4096


def opened(d: Direct, size: int) -> int:
    fd = d.open("/tmp/x", O_RDWR | O_CREAT)
    assert d.call("ftruncate", fd, size) == 0
    return int(fd)


def test_stores_and_writes_meet() -> None:
    d = Direct()
    fd = opened(d, 2 * PAGE)
    a = d.call("mmap", 0, 2 * PAGE, READ | WRITE, SHARED, fd, 0)
    b = d.call("mmap", 0, PAGE, READ, SHARED, fd, PAGE)
    assert d.mm.space.write(a + PAGE, b"stored")
    assert d.get(b, 6) == b"stored"
    assert d.call("pwrite64", fd, b"W", 1, PAGE) == 1
    assert d.get(a + PAGE, 6) == b"Wtored"
    child = d.mm.space.fork()
    assert child.write(a, b"child")
    assert d.read(fd, 5) == b"child"


def test_pages_past_the_end_come_and_go() -> None:
    d = Direct()
    fd = opened(d, 100)
    a = d.call("mmap", 0, 2 * PAGE, READ | WRITE, SHARED, fd, 0)
    assert d.mm.space.write(a + PAGE - 1, b"x")
    assert d.mm.space.read(a + PAGE, 1) is None
    assert d.call("ftruncate", fd, PAGE + 1) == 0
    assert d.get(a + PAGE, 1) == b"\0"
    assert d.call("ftruncate", fd, 10) == 0
    assert d.mm.space.read(a + PAGE, 1) is None


def test_only_a_writable_descriptor_gives_a_writable_mapping() -> None:
    d = Direct()
    opened(d, PAGE)
    fd = d.open("/tmp/x")
    assert d.call("mmap", 0, PAGE, READ | WRITE, SHARED, fd, 0) == "EACCES"
    a = d.call("mmap", 0, PAGE, READ, SHARED, fd, 0)
    assert d.call("mprotect", a, PAGE, READ | WRITE) == "EACCES"


def test_a_mapping_grows_with_mremap() -> None:
    d = Direct()
    fd = opened(d, 3 * PAGE)
    a = d.call("mmap", 0, PAGE, READ | WRITE, SHARED, fd, 0)
    b = d.call("mremap", a, PAGE, 3 * PAGE, 1)
    assert d.mm.space.write(b + 2 * PAGE, b"end")
    buffer = d.room(3)
    assert d.call("pread64", fd, buffer, 3, 2 * PAGE) == 3
    assert d.get(buffer, 3) == b"end"


def test_times_of_a_file_that_is_stored_to(tmp_path: Path) -> None:
    """At the first store after the file was written back."""
    (tmp_path / "file").write_bytes(bytes(PAGE))
    d = Direct(tmp_path)
    fd = d.open("/file", 2)
    at = int(d.call("mmap", 0, PAGE, READ | WRITE, SHARED, fd, 0))

    inode = d.t.files.get(fd).inode

    def sets_times() -> bool:
        before = inode.mtime
        d.idle(10**9)
        assert d.mm.space.write(at, b"x")
        if d.k.machine.stored:
            note_stores(d.k)
        assert inode.mtime == before or inode.mtime == inode.ctime
        return inode.mtime > before

    assert [sets_times(), sets_times()] == [True, False]
    assert d.call("msync", at, PAGE, MS_SYNC) == 0
    assert [sets_times(), sets_times()] == [True, False]
    assert d.call("fsync", fd) == 0
    assert sets_times()
