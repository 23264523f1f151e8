"""Tables made by executing a run again, in the user's cache; removing them costs only time.

They are in $XDG_CACHE_HOME (or ~/.cache)/shstk/derived/<run>/<word>/<table>.parquet. Of a word of
--trace they are the files that recording with it would have stored. A directory gets its name when
it is whole. Who reads or writes there holds a lock on <run>, so that nobody makes room at its cost.
Where nothing can be cached, the tables are in a directory that goes with this object.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from shstk.tracer.rerun.user_cache import build

_WHY: Final = "why"
_WORK: Final = ".work-"
_ALL_BYTES: Final = 4 << 30  # of all runs


class DerivedCache:
    """The derived tables of one run. directory: that of all runs; None: nothing is cached.

    manifest: its bytes, which contain a hash of every file of the run. Another build of the tracer
    finds nothing of it.
    """

    def __init__(
        self, directory: Path | None, manifest: bytes, all_bytes: int = _ALL_BYTES
    ) -> None:
        name = hashlib.sha256(build() + manifest).hexdigest()
        self._all, self._all_bytes = directory, all_bytes
        self._own = self._open(name)

    def tables(self, word: str) -> dict[str, Path] | None:
        """The files of a word of --trace, by table: those with rows; None: they are not here."""
        made = self._own / word
        if not made.is_dir():
            return None
        return {file.stem: file for file in made.iterdir()}

    @property
    def why(self) -> str:
        """Why they can't be made; empty if they can, or nobody has tried."""
        file = self._own / _WHY
        return file.read_text() if file.is_file() else ""

    def refuse(self, why: str) -> None:
        """Nobody need try again: the same would happen."""
        with self.work() as work:
            (work / _WHY).write_text(why)
            (work / _WHY).replace(self._own / _WHY)

    @contextmanager
    def work(self) -> Iterator[Path]:
        """An empty directory to write in. It is removed afterwards."""
        for left in self._own.glob(f"{_WORK}*"):  # of a process that was killed
            _remove_unused(left)
        work = Path(tempfile.mkdtemp(prefix=_WORK, dir=self._own))
        lock = _lock(work, fcntl.LOCK_EX)
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if lock is not None:
                os.close(lock)

    def add(self, word: str, made: Path) -> None:
        """Keep a directory of `work` with all files of a word. Another process may have been
        faster: its files have the same rows."""
        with suppress(OSError):
            made.rename(self._own / word)
        self._make_room()

    def _open(self, name: str) -> Path:
        if self._all is not None:
            own = self._all / name
            with suppress(OSError):
                own.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = _lock(own, fcntl.LOCK_SH)
                if lock is not None:
                    weakref.finalize(self, os.close, lock)
                    os.utime(own)
                    return own
        own = Path(tempfile.mkdtemp(prefix="shstk-derived-"))
        weakref.finalize(self, shutil.rmtree, own, ignore_errors=True)
        return own

    def _make_room(self) -> None:
        """Remove the tables of runs that nobody reads now, the least recently used first."""
        if self._all is None:
            return
        with suppress(OSError):
            runs = sorted(self._all.iterdir(), key=lambda run: run.stat().st_mtime, reverse=True)
            left = self._all_bytes
            for run in runs:
                left -= sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
                if left < 0:
                    _remove_unused(run)


def _lock(directory: Path, how: int) -> int | None:
    """A descriptor of a directory that is this user's alone, with a lock on it; None: it is not, or
    it was removed, or somebody else has a lock."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(handle)
        with suppress(OSError):
            fcntl.flock(handle, how | fcntl.LOCK_NB)
            if directory.stat().st_ino == found.st_ino and _private(found):
                return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _private(found: os.stat_result) -> bool:
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def _remove_unused(directory: Path) -> None:
    with suppress(OSError):
        lock = _lock(directory, fcntl.LOCK_EX)
        if lock is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(lock)
