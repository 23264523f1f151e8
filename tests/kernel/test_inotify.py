"""inotify: which events are reported, for which file, in which order."""

from __future__ import annotations

import struct

import pytest
from direct import Direct

from shstk.schemas import uapi
from shstk.tracer.kernel.call import Wait

IGNORED, ISDIR, ONESHOT, ALL = 0x8000, 0x40000000, 0x80000000, 0xFFF
CREAT, RDWR, DIRECTORY = 0o100, 2, 0o200000

Event = tuple[int, int, int, str]  # wd, mask, cookie, name


@pytest.fixture
def d() -> Direct:
    return Direct()


def watcher(d: Direct) -> int:
    fd = d.call("inotify_init1", 0o4000)
    assert isinstance(fd, int)
    return fd


def watch(d: Direct, fd: int, path: str, mask: int = ALL) -> int | str:
    result: int | str = d.call("inotify_add_watch", fd, path.encode() + b"\0", mask)
    return result


def events(d: Direct, fd: int) -> list[Event]:
    data, out, at = d.read(fd), [], 0
    while isinstance(data, bytes) and at < len(data):
        wd, mask, cookie, length = struct.unpack_from("<iIII", data, at)
        name = data[at + 16 : at + 16 + length]
        assert length % 16 == 0
        out.append((wd, mask, cookie, name.rstrip(b"\0").decode()))
        at += 16 + length
    return out


def test_a_file_is_made_written_and_read(d: Direct) -> None:
    fd = watcher(d)
    assert watch(d, fd, "/tmp") == 1
    assert d.read(fd) == "EAGAIN"
    d.save("/tmp/a", b"text")
    assert events(d, fd) == [
        (1, mask, 0, "a")
        for mask in (uapi.IN_CREATE, uapi.IN_OPEN, uapi.IN_MODIFY, uapi.IN_CLOSE_WRITE)
    ]
    assert d.text("/tmp/a") == b"text"
    assert events(d, fd) == [
        (1, mask, 0, "a") for mask in (uapi.IN_OPEN, uapi.IN_ACCESS, uapi.IN_CLOSE_NOWRITE)
    ]
    assert d.at("fchmodat", "/tmp/a", 0o600) == 0
    assert d.at("fchmodat", "/tmp/a", 0o600) == 0  # not reported again: it equals the last event
    assert events(d, fd) == [(1, uapi.IN_ATTRIB, 0, "a")]


def test_names_come_move_and_go(d: Direct) -> None:
    fd = watcher(d)
    d.save("/tmp/f", b"")
    d.at("mkdirat", "/tmp/d", 0o755)
    assert [watch(d, fd, path) for path in ("/tmp", "/tmp/f", "/tmp/d")] == [1, 2, 3]
    assert d.call("renameat2", -100, b"/tmp/f\0", -100, b"/tmp/d/g\0", 0) == 0
    assert events(d, fd) == [
        (1, uapi.IN_MOVED_FROM, 1, "f"),
        (3, uapi.IN_MOVED_TO, 1, "g"),
        (2, uapi.IN_MOVE_SELF, 0, ""),
    ]
    assert d.at("unlinkat", "/tmp/d/g", 0) == 0
    assert events(d, fd) == [
        (2, uapi.IN_ATTRIB, 0, ""),
        (3, uapi.IN_DELETE, 0, "g"),
        (2, uapi.IN_DELETE_SELF, 0, ""),
        (2, IGNORED, 0, ""),
    ]
    assert d.at("unlinkat", "/tmp/d", 0x200) == 0
    assert events(d, fd) == [
        (1, uapi.IN_DELETE | ISDIR, 0, "d"),
        (3, uapi.IN_DELETE_SELF, 0, ""),
        (3, IGNORED, 0, ""),
    ]


def test_a_file_that_is_open_is_not_gone(d: Direct) -> None:
    fd = watcher(d)
    file = d.open("/tmp/f", RDWR | CREAT)
    watch(d, fd, "/tmp/f", uapi.IN_DELETE_SELF)
    d.at("unlinkat", "/tmp/f", 0)
    assert events(d, fd) == []
    d.call("close", file)
    assert events(d, fd) == [(1, uapi.IN_DELETE_SELF, 0, ""), (1, IGNORED, 0, "")]


def test_watches_are_changed_and_removed(d: Direct) -> None:
    fd = watcher(d)
    assert watch(d, fd, "/tmp", uapi.IN_CREATE) == 1
    assert watch(d, fd, "/tmp", uapi.IN_DELETE | 0x20000000) == 1  # IN_MASK_ADD
    assert watch(d, fd, "/tmp", uapi.IN_DELETE | 0x10000000) == "EEXIST"  # IN_MASK_CREATE
    assert watch(d, fd, "/tmp", uapi.IN_CREATE | ONESHOT) == 1
    d.at("mkdirat", "/tmp/x", 0o755)
    d.at("mkdirat", "/tmp/y", 0o755)
    assert events(d, fd) == [(1, uapi.IN_CREATE | ISDIR, 0, "x"), (1, IGNORED, 0, "")]
    assert watch(d, fd, "/tmp") == 2
    assert d.call("inotify_rm_watch", fd, 2) == 0
    assert d.call("inotify_rm_watch", fd, 2) == "EINVAL"
    assert events(d, fd) == [(2, IGNORED, 0, "")]


def test_a_reader_sleeps_until_there_is_something(d: Direct) -> None:
    fd = d.call("inotify_init1", 0)
    watch(d, fd, "/tmp", uapi.IN_CREATE)
    room = d.room(64)
    assert isinstance(d.start("read", fd, room, 64), Wait)
    d.at("mkdirat", "/tmp/x", 0o755)
    assert d.call("read", fd, room, 8) == "EINVAL"
    assert d.call("read", fd, room, 64) == 32


def test_what_is_refused(d: Direct) -> None:
    fd = watcher(d)
    assert watch(d, fd, "/tmp", 0) == "EINVAL"
    assert watch(d, fd, "/none") == "ENOENT"
    assert watch(d, 0, "/tmp") == "EINVAL"
    d.save("/tmp/f", b"")
    assert watch(d, fd, "/tmp/f", uapi.IN_OPEN | 0x1000000) == "ENOTDIR"
