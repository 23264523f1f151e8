"""Changes to a directory of the host that are written aside first, so that each is one rename.

Until `begin` nothing but the staging directory has changed: a full disk or a kill costs nothing.
After it files only move: new ones to their places, old ones out of the way. If that is cut off,
the staging directory stays, with all that has not found its place.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.tree.hosttree import STAGING, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shstk.tracer.kernel.tree.beneath import Beneath

_STAGING: Final = raw(STAGING)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """place: the directory that is changed. One at a time holds its lock. Methods raise OSError.

    What `file`, `link`, `symlink` and `fifo` return is for `put`.
    """

    def __init__(self, place: Beneath) -> None:
        self._place = place
        self._open = ExitStack()
        self._count = 0
        self._begun = False

    def __enter__(self) -> Staging:
        with self._open as opened:
            self._top = opened.enter_context(self._place.folder(b"", create=True))
            lock = os.open(b".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._top)
            opened.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                os.mkdir(_STAGING, 0o700, dir_fd=self._top)
            except FileExistsError as error:
                error.strerror = f"an earlier write-back was cut off: look into {STAGING}"
                raise
            self._aside = opened.enter_context(self._place.folder(_STAGING))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        with self._open:
            if error is None or not self._begun:
                self._empty()
                os.rmdir(_STAGING, dir_fd=self._top)

    def file(self, data: bytes | bytearray, mode: int) -> bytes:
        name = self._next()
        descriptor = os.open(name, _NEW, 0o600, dir_fd=self._aside)
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            os.fchmod(descriptor, mode)
        return name

    def link(self, staged: bytes) -> bytes:
        """Another name of a staged file."""
        name = self._next()
        os.link(staged, name, src_dir_fd=self._aside, dst_dir_fd=self._aside)
        return name

    def symlink(self, target: bytes) -> bytes:
        name = self._next()
        os.symlink(target, name, dir_fd=self._aside)
        return name

    def fifo(self, mode: int) -> bytes:
        name = self._next()
        os.mkfifo(name, mode, dir_fd=self._aside)
        return name

    def begin(self) -> None:
        """Everything is written; now it moves."""
        self._begun = True

    def put(self, path: bytes, staged: bytes) -> None:
        """Move a staged file to its place. A file that is there is replaced in one step."""
        with self._place.entry(path) as (folder, name):
            try:
                os.rename(staged, name, src_dir_fd=self._aside, dst_dir_fd=folder)
            except IsADirectoryError:
                self.remove(path)
                os.rename(staged, name, src_dir_fd=self._aside, dst_dir_fd=folder)

    def folder(self, path: bytes, mode: int) -> None:
        """A new directory."""
        self.remove(path)
        with self._place.entry(path) as (folder, name):
            os.mkdir(name, mode | 0o700, dir_fd=folder)

    def parents(self, path: bytes, mode: Callable[[bytes], int | None]) -> None:
        """The directories that a path is in, where they are missing. mode: of each, if known."""
        with suppress(FileNotFoundError), self._place.entry(path):
            return
        names = path.split(b"/")[:-1]
        for n in range(1, len(names) + 1):
            above = b"/".join(names[:n])
            with self._place.entry(above) as (folder, name), suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder)
                if (bits := mode(above)) is not None:
                    with _opened(folder, name) as made:  # chmod would follow a symlink
                        os.fchmod(made, bits)

    def remove(self, path: bytes) -> None:
        """Move what is there out of the way, if there is something."""
        with suppress(FileNotFoundError), self._place.entry(path) as (folder, name):
            self._take(folder, name)

    def _take(self, folder: int, name: bytes | str) -> None:
        aside = self._next()
        try:
            os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=self._aside)
        except PermissionError:  # a directory that its owner may not write does not move
            with _opened(folder, name) as directory:
                os.fchmod(directory, 0o700)
            os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=self._aside)

    def _empty(self) -> None:
        """Delete what is in the staging directory. Trees are flattened, so depth doesn't matter."""
        with _opened(self._aside, b".") as aside:
            while names := os.listdir(aside):
                for name in names:
                    try:
                        os.unlink(name, dir_fd=aside)
                    except IsADirectoryError:
                        with _opened(aside, name) as directory:
                            for inner in os.listdir(directory):
                                self._take(directory, inner)
                        os.rmdir(name, dir_fd=aside)

    def _next(self) -> bytes:
        self._count += 1
        return b"%d" % self._count


def cut_off(place: Beneath) -> bool:
    """Whether a write-back to a place did not end. One that still goes on holds the lock."""
    try:
        if not stat.S_ISDIR(place.status(b"").st_mode):
            place, _ = place.around()
        with place.folder(b"") as top, _opened(top, b".") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.stat(_STAGING, dir_fd=top, follow_symlinks=False)
            return True
    except OSError:
        return False


@contextmanager
def _opened(folder: int, name: bytes | str) -> Iterator[int]:
    """A directory, for reading."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
