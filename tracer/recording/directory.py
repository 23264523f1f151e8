"""Directories that are there whole or not at all: locked, written under another name, published.

A directory that is overwritten changes places with the new one and is then removed, under the name
NAME.replaced: at every moment there is one whole directory of that name.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shstk.schemas.errors import CannotWrite, OutputExists

REPLACED: Final = ".replaced"

_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100


def publish(new: Path, target: Path) -> None:
    """Give `new`, whose files are on disk, the name of `target`. Raises OSError, CannotWrite."""
    sync(new)
    replaced = target.with_name(target.name + REPLACED)
    if replaced.exists():
        remove(replaced)
    if not os.path.lexists(target):
        new.rename(target)
    else:
        _exchange(new, target, aside=replaced)
    sync(target.parent)
    if replaced.exists():
        remove(replaced)


def locked(path: Path) -> int:
    """A descriptor of the directory, with a lock on it. Raises OutputExists if somebody has it."""
    with writing(path):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = os.fstat(handle).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        free = False
    except OSError:
        free = True  # a file system without locks
    if free:
        return handle
    os.close(handle)
    raise OutputExists(
        f"{path} is being written by another shstk", "wait for it, or choose another with -o"
    )


def _exchange(new: Path, old: Path, aside: Path) -> None:
    """`new` gets the name of `old`, and `old` the name `aside`, so that there is always an `old`.

    Python has no renameat2. File systems without RENAME_EXCHANGE (NFS) leave a moment in which
    there is no `old`: both are there then, as `new` and `aside`.
    """
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = (_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old))
    if renameat2 is not None and renameat2(*names, _RENAME_EXCHANGE) == 0:
        new.rename(aside)
        return
    old.rename(aside)
    new.rename(old)


def remove(directory: Path) -> None:
    with writing(directory):
        shutil.rmtree(directory)


def sync_all(paths: Iterable[Path]) -> None:
    """Side by side: the file system then writes what they have in common once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(sync, paths))


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path, hint: str = "") -> Iterator[None]:
    """Raise CannotWrite for an OSError."""
    try:
        yield
    except OSError as e:
        raise CannotWrite(f"cannot write to {path}: {e.strerror or e}", hint) from e
