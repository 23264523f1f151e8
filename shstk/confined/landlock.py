"""Landlock: where this process may write, without root (Linux 5.19 or later)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

# linux/landlock.h, and the numbers of the calls, which are those of all architectures.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # flag of landlock_create_ruleset
_PATH_BENEATH: Final = 1

_WRITE_FILE: Final = 1 << 1
_CHANGE: Final = sum(1 << bit for bit in range(4, 13))  # REMOVE_DIR to MAKE_SYM
# Version 1 refuses every rename to another directory, which a write-back to --bind needs.
_LEAST: Final = 2
# ABI version -> the rights it added. Reading, executing and ioctl are not restricted.
_FILES: Final = {1: _WRITE_FILE | _CHANGE, 2: 1 << 13, 3: 1 << 14}  # REFER, TRUNCATE
_NETWORK: Final = {4: 1 << 0 | 1 << 1}  # BIND_TCP, CONNECT_TCP
_SCOPES: Final = {6: 1 << 0 | 1 << 1}  # ABSTRACT_UNIX_SOCKET, SIGNAL
_ATTR_SIZES: Final = {1: 8, 4: 16, 6: 24}  # of struct landlock_ruleset_attr


def restrict(libc: Any, writable: Iterable[Path | None], tcp: bool) -> str:
    """Of this thread and those that it starts. Returns why not, or nothing."""
    abi = libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
    if abi < 1:
        return f"this system has no Landlock: {os.strerror(ctypes.get_errno())}"
    if abi < _LEAST:
        return f"this system has version {abi} of Landlock, and {_LEAST} is needed"
    files = _rights(_FILES, abi)
    network = 0 if tcp else _rights(_NETWORK, abi)
    attr = (ctypes.c_uint64 * 3)(files, network, _rights(_SCOPES, abi))
    size = max(size for since, size in _ATTR_SIZES.items() if since <= abi)
    ruleset = libc.syscall(_CREATE_RULESET, attr, ctypes.c_size_t(size), 0)
    try:
        for path in _standing(writable):
            _allow(libc, ruleset, path, files)
        _allow(libc, ruleset, Path("/dev"), files & ~_CHANGE)  # terminals, null
        done = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
        return "" if done else os.strerror(ctypes.get_errno())
    finally:
        os.close(ruleset)


def _rights(since: dict[int, int], abi: int) -> int:
    return sum(rights for version, rights in since.items() if version <= abi)


def _standing(paths: Iterable[Path | None]) -> Iterator[Path]:
    """The paths; for one that does not exist yet, the directory in which it will be made."""
    for path in paths:
        if path is not None:
            path = path.absolute()
            while not path.exists() and path != path.parent:
                path = path.parent
            yield path


def _allow(libc: Any, ruleset: int, path: Path, rights: int) -> None:
    """Allow it for a file, or for all beneath a directory. A path that is gone allows nothing."""

    class PathBeneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))

    try:
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not path.is_dir():
            rights &= ~_CHANGE & ~_FILES[2]
        rule = PathBeneath(rights, at)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(at)
