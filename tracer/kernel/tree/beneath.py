"""A place on the host and what lies beneath it, reached without following a symlink.

Every access walks from a descriptor that was opened at the start, one name at a time with
O_NOFOLLOW. So nothing that a guest or another process renames or links, before or during a walk,
leads out of the place, and no path is too long.
"""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UP: Final = frozenset({b"", b".", b".."})


class Beneath:
    """A place: by `rest`, names that lead to it from `start`, a directory.

    Paths are relative to it and in bytes; b"" is the place itself. Every method raises OSError.
    """

    def __init__(self, start: int, rest: list[bytes]) -> None:
        """start: a descriptor, which the object closes."""
        self._start = start
        self._rest = rest
        weakref.finalize(self, os.close, start)

    @staticmethod
    def at(path: bytes) -> Beneath:
        """path: absolute, without symlinks: a directory, a file, or nothing yet."""
        rest: list[bytes] = []
        while not os.path.isdir(path):
            path, name = os.path.split(path)
            rest.insert(0, name)
        return Beneath(os.open(path, _FOLDER), rest)

    def around(self) -> tuple[Beneath, bytes]:
        """For a place that is a file: the directory that it is in, and its name there."""
        return Beneath(os.dup(self._start), self._rest[:-1]), self._rest[-1]

    @contextmanager
    def folder(self, path: bytes, create: bool = False) -> Iterator[int]:
        """A descriptor of a directory. create: make it and its parents where they are missing."""
        with self._walk(self._names(path), create) as descriptor:
            yield descriptor

    @contextmanager
    def entry(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """The directory that a path is in, and its name there; "." if the place is a directory."""
        *folders, name = self._names(path) or [b"."]
        with self._walk(folders) as descriptor:
            yield descriptor, name

    def status(self, path: bytes) -> os.stat_result:
        with self.entry(path) as (folder, name):
            return os.stat(name, dir_fd=folder, follow_symlinks=False)

    def read(self, path: bytes) -> bytes:
        """The contents of a regular file."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self.entry(path) as (folder, name):
            descriptor = os.open(name, flags, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{os.fsdecode(path)}: not a regular file any more")
            return file.read()

    @contextmanager
    def scan(self, path: bytes) -> Iterator[Iterator[os.DirEntry[str]]]:
        """The entries of a directory."""
        with self.folder(path) as folder:
            readable = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            with os.scandir(readable) as entries:
                yield entries
        finally:
            os.close(readable)

    def target(self, path: bytes) -> bytes:
        """The target of a symlink."""
        with self.entry(path) as (folder, name):
            return os.readlink(name, dir_fd=folder)

    def _names(self, path: bytes) -> list[bytes]:
        names = path.split(b"/") if path else []
        if _UP & {*names}:
            raise OSError(f"{os.fsdecode(path)}: not the name of something beneath a directory")
        return self._rest + names

    @contextmanager
    def _walk(self, names: list[bytes], create: bool = False) -> Iterator[int]:
        here = os.open(b".", _FOLDER, dir_fd=self._start)
        try:
            for name in names:
                if create:
                    _make(name, here)
                there = os.open(name, _FOLDER, dir_fd=here)
                os.close(here)
                here = there
            yield here
        finally:
            os.close(here)


def _make(name: bytes, folder: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
