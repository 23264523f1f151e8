"""Checkpoints of runs, in the user's cache; removing them costs nothing but time.

They are in $XDG_CACHE_HOME (or ~/.cache)/shstk/checkpoints/<run>/<icount>, never in the run, which
may come from somebody else. A cache that can't be read or written is treated as empty.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shstk.tracer.rerun.user_cache import build, user_cache


@dataclass(frozen=True)
class Room:
    """The limits of a cache."""

    checkpoints: int = 512  # per run
    run_bytes: int = 512 << 20  # per run
    all_bytes: int = 2 << 30  # for all runs


def cache_directory() -> Path | None:
    """That of the checkpoints."""
    return user_cache("checkpoints")


class CheckpointCache:
    """The checkpoints of one run. directory: that of all runs; None: nothing is cached.

    manifest: its bytes, which contain a hash of every file of the run. kernel: the revision for the
    second execution, if it is not the recorded one.
    """

    def __init__(
        self,
        directory: Path | None,
        manifest: bytes,
        kernel: str | None = None,
        room: Room = Room(),
    ) -> None:
        name = hashlib.sha256(build() + manifest + (kernel or "").encode()).hexdigest()
        self._room = room
        self._all = directory
        self._own = directory / name if directory else None

    def before(self, icount: int) -> Iterator[bytes]:
        """The checkpoints at `icount` or earlier, the latest first. They are not validated here;
        `checkpoint.restore` does that."""
        for at, path in sorted(self._files(), reverse=True):
            if at <= icount:
                with suppress(OSError):
                    yield path.read_bytes()

    def latest(self, icount: int) -> int | None:
        """The icount of the first of `before`."""
        return max((at for at, _ in self._files() if at <= icount), default=None)

    def add(self, icount: int, data: bytes) -> bool:
        """Store a checkpoint. True: the limit was exceeded, and every second one was removed."""
        with suppress(OSError):
            if self._own is not None:
                self._store(self._own, icount, data)
                return self._thin_out()
        return False

    def _files(self) -> list[tuple[int, Path]]:
        """(icount, file) of the checkpoints that this user owns."""
        if self._own is None or not self._own.is_dir():
            return []
        files = (path for path in self._own.iterdir() if path.name.isdecimal())
        return [(int(path.name), path) for path in files if path.lstat().st_uid == os.getuid()]

    def _store(self, own: Path, icount: int, data: bytes) -> None:
        if not own.is_dir():
            own.mkdir(mode=0o700, parents=True)
            self._make_room()
        new = own / f".{icount}.{os.getpid()}"
        new.write_bytes(data)
        new.rename(own / str(icount))

    def _thin_out(self) -> bool:
        files = sorted(self._files())
        size = sum(path.stat().st_size for _, path in files)
        if len(files) <= self._room.checkpoints and size <= self._room.run_bytes:
            return False
        for _, path in files[::2]:
            path.unlink(missing_ok=True)
        return True

    def _make_room(self) -> None:
        """Remove checkpoints, those of the least recently used runs first."""
        assert self._all is not None
        runs = sorted(self._all.iterdir(), key=lambda run: run.stat().st_mtime, reverse=True)
        left = self._room.all_bytes
        for run in runs:
            left -= sum(path.stat().st_size for path in run.iterdir())
            if left < 0 and run != self._own:
                shutil.rmtree(run, ignore_errors=True)
