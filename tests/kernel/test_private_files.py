"""MAP_PRIVATE of files: a page shows the file until it is written, and takes no memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from direct import Direct

from shstk.schemas.uapi import (
    MADV_DONTNEED,
    MAP_PRIVATE,
    MAP_SHARED,
    PAGE,
    PROT_READ,
    PROT_WRITE,
)
from shstk.tracer.kernel.process.clone import dup_mm

O_RDWR, O_CREAT = 2, 0o100
RW = PROT_READ | PROT_WRITE


@pytest.fixture
def d() -> Direct:
    return Direct()


def opened(d: Direct, size: int) -> int:
    fd = d.open("/tmp/x", O_RDWR | O_CREAT)
    assert d.call("ftruncate", fd, size) == 0
    return int(fd)


def mapped(d: Direct, fd: int, pages: int, flags: int = MAP_PRIVATE, offset: int = 0) -> int:
    return int(d.call("mmap", 0, pages * PAGE, RW, flags, fd, offset))


def test_writes_after_the_mapping_are_seen(d: Direct) -> None:
    fd = opened(d, PAGE)
    at = mapped(d, fd, 2)
    assert d.call("pwrite64", fd, b"N", 1, 10) == 1
    assert d.get(at + 10, 1) == b"N"
    assert d.mm.space.write(at, b"own page")
    assert d.call("pwrite64", fd, b"M", 1, 10) == 1
    assert d.get(at, 11) == b"own page\0\0N"
    assert d.read(fd, 11) == bytes(10) + b"M"


def test_stores_through_a_shared_mapping_are_seen(d: Direct) -> None:
    fd = opened(d, PAGE)
    private, shared = mapped(d, fd, 1), mapped(d, fd, 1, MAP_SHARED)
    assert d.mm.space.write(shared, b"shared")
    assert d.get(private, 6) == b"shared"
    child = dup_mm(d.k, d.mm)
    assert child.space.write(private, b"child")
    assert d.mm.space.write(shared, b"SHARED")
    assert (d.get(private, 6), child.space.read(private, 6)) == (b"SHARED", b"childd")


def test_a_file_that_grows_and_shrinks_beneath_its_mapping(d: Direct) -> None:
    """truncate_pagecache(): what is cut off is gone, private copies too."""
    fd = opened(d, 0)
    at = mapped(d, fd, 2)
    assert d.mm.space.read(at, 1) is None
    assert d.call("ftruncate", fd, PAGE + 1) == 0
    assert d.mm.space.write(at, b"one")
    assert d.mm.space.write(at + PAGE, b"two")
    assert d.call("ftruncate", fd, 1) == 0
    assert d.get(at, 3) == b"one", "the page with the file's last byte stays"
    assert d.mm.space.read(at + PAGE, 1) is None
    assert d.call("ftruncate", fd, 2 * PAGE) == 0
    assert d.get(at + PAGE, 3) == bytes(3)
    # A child's pages go too.
    child = dup_mm(d.k, d.mm)
    d.k.mms[child.id] = child
    assert child.space.write(at + PAGE, b"child")
    assert d.call("ftruncate", fd, 1) == 0
    assert child.space.read(at + PAGE, 1) is None


def test_dontneed_drops_the_private_copy(d: Direct) -> None:
    fd = opened(d, PAGE)
    at = mapped(d, fd, 1)
    assert d.mm.space.write(at, b"mine")
    assert d.call("pwrite64", fd, b"file", 4, 0) == 4
    assert d.call("madvise", at, PAGE, MADV_DONTNEED) == 0
    assert d.get(at, 4) == b"file"


def test_an_unlinked_file_stays_mapped(d: Direct) -> None:
    fd = opened(d, PAGE)
    assert d.write(fd, b"kept") == 4
    at = mapped(d, fd, 1)
    assert d.at("unlinkat", "/tmp/x", 0) == 0
    assert d.call("close", fd) == 0
    assert d.get(at, 4) == b"kept"


def test_mappings_of_a_large_file_take_no_memory(tmp_path: Path) -> None:
    """Nor does reading them: the pages of a file are read in place."""
    (tmp_path / "big").write_bytes(bytes(range(256)) * 16 * 500)
    d = Direct(tmp_path)
    fd = d.open("/big")
    before = d.k.machine.frames
    for _ in range(30):
        at = int(d.call("mmap", 0, 500 * PAGE, RW, MAP_PRIVATE, fd, 0))
        assert d.get(at + 499 * PAGE, 256) == bytes(range(256))
    assert d.k.machine.frames == before
    assert d.mm.space.write(at, b"x")
    assert d.k.machine.frames == before + 1


def test_a_hole_takes_no_memory(d: Direct) -> None:
    before = d.k.machine.frames
    fd = opened(d, 900 << 20)
    assert d.call("pwrite64", fd, b"end", 3, (900 << 20) - 3) == 3
    at = mapped(d, fd, 900 << 8)
    assert d.get(at + (900 << 20) - 4, 4) == b"\0end"
    assert d.k.machine.frames <= before + 2, "the last page, and the arguments of the calls"


def test_a_private_mapping_of_a_read_only_file_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"host" + bytes(PAGE))
    d = Direct(tmp_path)
    fd = d.open("/file")
    at = int(d.call("mmap", 0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0))
    assert d.call("mprotect", at, PAGE, RW) == 0
    assert d.mm.space.write(at, b"mine")
    assert d.read(fd, 4) == b"host"
