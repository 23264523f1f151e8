"""A process that runs a guest gives up what it does not need, before it reads the guest.

The executor and the kernel model keep a guest in its tree. This is for the case that one of them
has a defect: from here on this process can write only to the directory of the run and to what
--overlay and --bind name, and can't use TCP or signal other processes. Commands that record many
times, or execute a run again, can also write to the temporary directory and to the user's cache.
Landlock (Linux 5.19 or later) needs no root for that. Older kernels leave the process as it is.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from shstk.cli.process import is_ours
from shstk.tracer.options import Settings
from shstk.tracer.rerun.user_cache import user_cache

# linux/landlock.h, and the numbers of the calls, which are those of all architectures.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # flag of landlock_create_ruleset
_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38

_WRITE_FILE: Final = 1 << 1
_CHANGE: Final = sum(1 << bit for bit in range(4, 13))  # REMOVE_DIR to MAKE_SYM
# Version 1 refuses every rename to another directory, which a write-back to --bind needs.
_LEAST: Final = 2
# ABI version -> the rights it added. Reading, executing and ioctl are not restricted.
_FILES: Final = {1: _WRITE_FILE | _CHANGE, 2: 1 << 13, 3: 1 << 14}  # REFER, TRUNCATE
_NETWORK: Final = {4: 1 << 0 | 1 << 1}  # BIND_TCP, CONNECT_TCP
_SCOPES: Final = {6: 1 << 0 | 1 << 1}  # ABSTRACT_UNIX_SOCKET, SIGNAL
_ATTR_SIZES: Final = {1: 8, 4: 16, 6: 24}  # of struct landlock_ruleset_attr

OFF: Final = "SHSTK_UNCONFINED"


def confine(writable: Iterable[Path | None], tcp: bool = False) -> str:
    """Restrict this process. writable: what it may still write; None is left out. tcp: it may still
    listen and connect. Returns why it was not restricted, or nothing. No other thread must run yet:
    it would not be restricted."""
    if not is_ours():
        return "it runs in a process of somebody else"
    if os.environ.get(OFF):
        return f"{OFF} is set"
    libc = ctypes.CDLL(None, use_errno=True)
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
        done = (
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            and libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
        )
        return "" if done else os.strerror(ctypes.get_errno())
    finally:
        os.close(ruleset)


def confine_guest(
    guest: Settings, plugins: Iterable[str], verbose: bool, run: Path | None = None
) -> None:
    """Restrict this process, which is about to run a guest. run: the directory that will
    have the record; None: nothing is recorded."""
    _confine(
        [run.parent if run is not None else None, *_written_back(guest)], plugins, verbose, False
    )


def confine_sweep(
    guest: Settings, plugins: Iterable[str], verbose: bool, *outputs: Path | None
) -> None:
    """Restrict this process and those that it starts, which record a guest many times."""
    _confine([*outputs, *_written_back(guest), *_scratch()], plugins, verbose, False)


def confine_rerun(
    plugins: Iterable[str], verbose: bool, output: Path | None = None, tcp: bool = False
) -> None:
    """Restrict this process, which is about to execute a run again. output: what it will write.
    tcp: it listens to a debugger."""
    _confine([output.parent if output is not None else None, *_scratch()], plugins, verbose, tcp)


def _confine(
    writable: Iterable[Path | None], plugins: Iterable[str], verbose: bool, tcp: bool
) -> None:
    """A plugin is the user's own code and may write anywhere: nothing is restricted with one."""
    why = "plugins may write anywhere" if any(plugins) else confine(writable, tcp)
    if verbose:
        done = f"not restricted ({why})" if why else "restricted by Landlock"
        click.echo(f"shstk: this process is {done}", err=True)


def _written_back(guest: Settings) -> Iterator[Path]:
    """What the guest's own options let it change."""
    if guest["overlay"] is not None:
        yield Path(guest["overlay"])
    for host, _, writable in guest["binds"]:
        if writable:
            yield Path(host) if Path(host).is_dir() else Path(host).parent


def _scratch() -> Iterator[Path]:
    """Where runs lie that nobody keeps, semaphores, checkpoints and derived tables."""
    yield Path(tempfile.gettempdir())
    yield Path("/dev/shm")
    for name in ("checkpoints", "derived"):
        if cache := user_cache(name):
            with suppress(OSError):  # it must exist: its parent is more than may be written
                cache.mkdir(parents=True, exist_ok=True)
                yield cache


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
