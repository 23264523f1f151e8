"""fcntl(2): one row per command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    F_ADD_SEALS,
    F_CREATED_QUERY,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_DUPFD_QUERY,
    F_GET_RW_HINT,
    F_GET_SEALS,
    F_GETFD,
    F_GETFL,
    F_GETLEASE,
    F_GETLK,
    F_GETOWN,
    F_GETOWN_EX,
    F_GETOWNER_UIDS,
    F_GETPIPE_SZ,
    F_GETSIG,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    F_SET_RW_HINT,
    F_SETFD,
    F_SETFL,
    F_SETLEASE,
    F_SETLK,
    F_SETLKW,
    F_SETOWN,
    F_SETOWN_EX,
    F_SETPIPE_SZ,
    F_SETSIG,
    O_APPEND,
    O_ASYNC,
    O_DIRECT,
    O_NOATIME,
    O_NONBLOCK,
    O_PATH,
)
from shstk.tracer.kernel.call import Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import leases, seals, sigio
from shstk.tracer.kernel.fs.files import INT_MAX
from shstk.tracer.kernel.fs.inode import Directory, Regular
from shstk.tracer.kernel.fs.locks import get_lock, set_lock
from shstk.tracer.kernel.fs.pipes import Fifo, get_pipe_size, set_pipe_size
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_SETTABLE: Final = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME  # by F_SETFL
_FD_CLOEXEC: Final = 1
_RW_HINT_MAX: Final = 5  # RWH_WRITE_LIFE_EXTREME


def _dupfd(k: Kernel, t: Task, fd: int, arg: int, cloexec: bool = False) -> int:
    lowest = arg & 0xFFFF_FFFF
    if lowest >= min(t.rlimit("NOFILE"), INT_MAX):
        raise Errno("EINVAL")
    return t.files.add(t, t.files.get(fd, path_only=True), cloexec, lowest)


def _dupfd_query(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """Whether another descriptor has the same description."""
    return int(t.files.get(arg, path_only=True) is t.files.get(fd, path_only=True))


def _created_query(k: Kernel, t: Task, fd: int, arg: int) -> int:
    return int(t.files.get(fd, path_only=True).created)


def _getfd(k: Kernel, t: Task, fd: int, arg: int) -> int:
    return _FD_CLOEXEC if fd in t.files.cloexec else 0


def _setfd(k: Kernel, t: Task, fd: int, arg: int) -> int:
    if arg & _FD_CLOEXEC:
        t.files.cloexec.add(fd)
    else:
        t.files.cloexec.discard(fd)
    return 0


def _getfl(k: Kernel, t: Task, fd: int, arg: int) -> int:
    return t.files.get(fd, path_only=True).flags


def _setfl(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """setfl(). tmpfs has direct I/O; O_DIRECT of a pipe is its packet mode."""
    file = t.files.get(fd)
    if arg & O_DIRECT and not isinstance(file.inode, Regular | Fifo):
        raise Errno("EINVAL")
    file.flags = file.flags & ~_SETTABLE | arg & _SETTABLE
    if (file.flags ^ arg) & O_ASYNC and not isinstance(file.inode, Regular | Directory):
        sigio.switch(k, file, bool(arg & O_ASYNC), fd)
    return 0


def _get_rw_hint(k: Kernel, t: Task, fd: int, arg: int) -> int:
    usermem.put_u64(k, t, arg, t.files.get(fd).inode.write_hint)
    return 0


def _set_rw_hint(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """How long what is written will live; there is no disk that would care."""
    inode, hint = t.files.get(fd).inode, usermem.get_u64(k, t, arg)
    if hint > _RW_HINT_MAX:
        raise Errno("EINVAL")
    inode.write_hint = hint
    return 0


Command = Callable[["Kernel", "Task", int, int], Outcome]
# check_fcntl_cmd(): the commands for a descriptor opened with O_PATH.
_OF_PATHS: Final[dict[int, Command]] = {
    F_CREATED_QUERY: _created_query,
    F_DUPFD: _dupfd,
    F_DUPFD_CLOEXEC: partial(_dupfd, cloexec=True),
    F_DUPFD_QUERY: _dupfd_query,
    F_GETFD: _getfd,
    F_SETFD: _setfd,
    F_GETFL: _getfl,
}
_COMMANDS: Final[dict[int, Command]] = {
    **_OF_PATHS,
    F_SETFL: _setfl,
    F_GETLK: get_lock,
    F_SETLK: set_lock,
    F_SETLKW: partial(set_lock, may_wait=True),
    F_SETOWN: sigio.set_owner,
    F_GETOWN: sigio.get_owner,
    F_SETSIG: sigio.set_signal,
    F_GETSIG: sigio.get_signal,
    F_SETOWN_EX: sigio.set_owner_ex,
    F_GETOWN_EX: sigio.get_owner_ex,
    F_GETOWNER_UIDS: sigio.get_owner_uids,
    F_OFD_GETLK: partial(get_lock, ofd=True),
    F_OFD_SETLK: partial(set_lock, ofd=True),
    F_OFD_SETLKW: partial(set_lock, may_wait=True, ofd=True),
    F_SETLEASE: leases.set_lease,
    F_GETLEASE: leases.get_lease,
    F_SETPIPE_SZ: set_pipe_size,
    F_GETPIPE_SZ: get_pipe_size,
    F_ADD_SEALS: seals.add,
    F_GET_SEALS: seals.get,
    F_GET_RW_HINT: _get_rw_hint,
    F_SET_RW_HINT: _set_rw_hint,
}


def sys_fcntl(k: Kernel, t: Task, a: Args) -> Outcome:
    fd, command = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
    file = t.files.get(fd, path_only=True)
    if file.flags & O_PATH and command not in _OF_PATHS:
        raise Errno("EBADF")
    if command not in _COMMANDS:
        raise Errno("EINVAL")
    return _COMMANDS[command](k, t, fd, a[2])


CALLS: Final = (Call("fcntl", sys_fcntl, why="no F_NOTIFY, delegations: -EINVAL"),)
