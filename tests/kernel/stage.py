"""Tables of calls: each line is a call, its arguments and what it answers.

    pread64 pipe_r room 1 0    ESPIPE
    openat cwd /tmp/d O_WRONLY|O_CREAT 0o644    EISDIR

An argument is a number, a constant of schemas/uapi.py, a path (from "/" on, or '' for the empty
one), a word of Stage (a descriptor or an address), or values in memory: i32:1,-1 u64:0. The answer
is an errno, a number, or "ok" for any number that isn't negative.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from direct import Direct

from shstk.schemas import uapi
from shstk.schemas.uapi import MAP_ANONYMOUS, MAP_PRIVATE, PAGE

_FORMS = {"u8": "B", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q"}


def table(text: str) -> Any:
    """The parametrize mark of a table; tests take its `line`."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return pytest.mark.parametrize("line", [" ".join(line.split()) for line in lines if line])


class Stage(Direct):
    """A task with a descriptor of each kind and addresses of each kind.

    Addresses: room and other (memory to write to), bad (unmapped), wild (above what any process can
    have), readonly, edge (the last byte before a page without access).
    """

    def __init__(self, kernel: str = "7.2") -> None:
        super().__init__(stdin=b"standard input", kernel=kernel)
        self.save("/tmp/f", b"0123456789")
        self.at("mkdirat", "/tmp/d", 0o755)
        self.words = {"cwd": uapi.AT_FDCWD, "none": -1, "closed": 99, "null": 0}
        pages = self.mm.map(self.k, 0, 2 * PAGE, 3, MAP_PRIVATE | MAP_ANONYMOUS)
        self.mm.protect(self.k, pages + PAGE, PAGE, 0)
        readonly = self.mm.map(self.k, 0, PAGE, 1, MAP_PRIVATE | MAP_ANONYMOUS)
        self.words |= {
            "bad": 8,
            "wild": 1 << 63 | PAGE,
            "edge": pages + PAGE - 1,
            "readonly": readonly,
        }
        self.words |= {"room": self.room(PAGE), "other": self.room(PAGE), "pid": self.t.pid}
        fds = {"file": ("/tmp/f", 2), "rdonly": ("/tmp/f", 0), "wronly": ("/tmp/f", 1)}
        fds |= {"append": ("/tmp/f", 0o2002), "path": ("/tmp/f", 0o10000000), "dir": ("/tmp/d", 0)}
        fds |= {"devnull": ("/dev/null", 2), "devzero": ("/dev/zero", 2), "tty": ("/dev/ptmx", 2)}
        fds |= {"proc": ("/proc/self/status", 0), "dirpath": ("/tmp/d", 0o10000000)}
        for name, (path, flags) in fds.items():
            self.words[name] = self.open(path, flags)
        self.words["pipe_r"], self.words["pipe_w"] = self.pipe()
        self.words["eventfd"] = self.call("eventfd2", 0, 0)
        self.words["epoll"] = self.call("epoll_create1", 0)
        self.words["inotify"] = self.call("inotify_init1", 0)
        self.words["timerfd"] = self.call("timerfd_create", 1, 0)
        self.words["signalfd"] = self.call("signalfd4", -1, bytes(8), 8, 0)
        self.words["memfd"] = self.call("memfd_create", b"m\0", 0)
        for name, family, kind in (
            ("unix", 1, 1),
            ("unix_dgram", 1, 2),
            ("unix_packet", 1, 5),
            ("tcp", 2, 1),
            ("udp", 2, 2),
            ("tcp6", 10, 1),
        ):
            self.words[name] = self.call("socket", family, kind, 0)
        pair = self.room(8)
        for name, kind in (("stream", 1), ("dgram", 2), ("packet", 5)):
            assert self.call("socketpair", 1, kind, 0, pair) == 0
            ends = struct.unpack("<2i", self.get(pair, 8))
            self.words[name], self.words[f"{name}_peer"] = ends

    def value(self, word: str) -> int | bytes:
        if word.startswith("/"):
            return word.encode() + b"\0"
        if word == "''":
            return b"\0"
        kind, colon, numbers = word.partition(":")
        if colon:
            values = [int(n, 0) for n in numbers.split(",")]
            return struct.pack(f"<{len(values)}{_FORMS[kind]}", *values)
        total = 0
        for part in word.split("|"):
            total |= self.words[part] if part in self.words else _number(part)
        return total


_KEPT: dict[Callable[[], Stage], Stage] = {}


def hold(make: Callable[[], Stage], line: str) -> None:
    """Assert that the call of a line gives its answer, on a stage that `make` made.

    A call that fails leaves the stage as it was, so that the next line can have it.
    """
    stage = _KEPT.pop(make, None) or make()
    name, *arguments, answer = line.split()
    got = stage.call(name, *map(stage.value, arguments))
    if answer == "ok":
        assert isinstance(got, int), (line, got)
        assert got >= 0
    else:
        assert got == (int(answer, 0) if not answer[0].isalpha() else answer), line
    if isinstance(got, str):
        _KEPT[make] = stage


def _number(word: str) -> int:
    found: int = getattr(uapi, word, None) if word[0].isalpha() else int(word, 0)
    return found
