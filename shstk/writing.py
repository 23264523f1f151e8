"""Writing a file or a directory that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from shstk.schemas.errors import CannotWrite, OutputExists
from shstk.tracer.recording.directory import locked, publish, remove, sync, writing


@contextmanager
def whole_file(path: Path, force: bool) -> Iterator[IO[bytes]]:
    """A file to write, which gets its name when all of it is written.

    Raises OutputExists if there is one (without force), and CannotWrite.
    """
    if path.exists() and not force:
        raise OutputExists(f"{path} already exists", "choose another with -o, or use --force")
    partial = path.with_name(f"{path.name}.partial")
    try:
        try:
            with partial.open("wb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CannotWrite(f"cannot write to {path}: {error.strerror or error}") from error


@contextmanager
def whole_directory(path: Path, force: bool, ours: Callable[[str], bool]) -> Iterator[Path]:
    """An empty directory, which gets the name `path` when all files in it are written.

    ours: whether a file of that name may be one that was written here before; a directory with any
    other is not overwritten. Raises OutputExists if there is one (without force), and CannotWrite.
    """

    def replaceable(directory: Path) -> bool:
        return directory.is_dir() and all(ours(entry.name) for entry in directory.iterdir())

    if path.exists() and not force:
        raise OutputExists(f"{path} already exists", "choose another with -o, or use --force")
    partial = path.with_name(f"{path.name}.partial")
    for directory in (path, partial):
        if directory.exists() and not replaceable(directory):
            raise OutputExists(
                f"{directory} is not what this command wrote", "choose another with -o"
            )
    with writing(path):
        if partial.exists():  # of a command that was killed, if nobody has the lock
            os.close(locked(partial))
            remove(partial)
        partial.mkdir(parents=True)
        lock = locked(partial)
        try:
            yield partial
            for file in partial.iterdir():
                sync(file)
            publish(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            os.close(lock)
