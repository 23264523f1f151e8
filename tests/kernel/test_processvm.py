"""process_vm_readv, process_vm_writev."""

from __future__ import annotations

import struct

import pytest
from direct import Direct


@pytest.fixture
def d() -> Direct:
    return Direct()


def iov(*parts: int) -> bytes:
    return struct.pack(f"<{len(parts)}Q", *parts)


def test_bytes_are_moved_both_ways(d: Direct) -> None:
    there, here = d.put(b"0123456789abcdef"), d.room(16)
    arguments = (iov(here, 4, here + 8, 8), 2, iov(there, 6, there + 8, 3), 2, 0)
    assert d.call("process_vm_readv", d.t.tid, *arguments) == 9
    assert d.get(here, 16) == b"0123".ljust(8, b"\0") + b"4589a".ljust(8, b"\0")
    assert d.call("process_vm_writev", d.t.tid, iov(there, 3), 1, iov(here, 8), 1, 0) == 3
    assert d.get(here, 4) == b"0123"


def test_what_is_refused(d: Direct) -> None:
    place = d.room(8)
    one = (iov(place, 8), 1, iov(place, 8), 1)
    assert d.call("process_vm_readv", 9999, *one, 0) == "ESRCH"
    assert d.call("process_vm_readv", d.t.tid, *one, 1) == "EINVAL"
    assert d.call("process_vm_readv", d.t.tid, iov(place, 8), 1, iov(0x10, 8), 1, 0) == "EFAULT"
    assert d.call("process_vm_readv", d.t.tid, iov(place, 8), 1, iov(place, 0), 1, 0) == 0
