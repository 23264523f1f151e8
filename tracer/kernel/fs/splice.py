"""splice, tee and vmsplice: bytes into and out of pipes (fs/splice.c)."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    IN_ACCESS,
    IN_MODIFY,
    O_APPEND,
    O_NONBLOCK,
    SPLICE_F_GIFT,
    SPLICE_F_MORE,
    SPLICE_F_MOVE,
    SPLICE_F_NONBLOCK,
)
from shstk.tracer.kernel.call import RESTART, Args, Call, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.pipes import PipeEnd
from shstk.tracer.kernel.fs.transfer import TRANSFER_MAX, gather, get_iov, scatter, total
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_FLAGS: Final = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT
# The types of files that have splice_read and splice_write; an anonymous inode has no type.
_SPLICED: Final = (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR)


def _is_pipe(file: OpenFile) -> bool:
    return stat.S_ISFIFO(file.inode.mode)


def _asleep(t: Task, file: OpenFile, nonblock: bool) -> Outcome:
    if nonblock:
        raise Errno("EAGAIN")
    if t.blocked is not None and t.blocked.woken == "signal":
        return RESTART
    return Wait("splice", file.key)


def _room(k: Kernel, t: Task, out: OpenFile) -> int:
    """Bytes that a pipe takes without blocking. Errno EPIPE, with SIGPIPE."""
    out.admit(k, t, 1)
    return out.room if isinstance(out, PipeEnd) else TRANSFER_MAX


def _ends(t: Task, source: int, out: int) -> tuple[OpenFile, OpenFile]:
    """The files of splice and tee. Errno EBADF."""
    files = t.files.get(source), t.files.get(out)
    if not files[0].readable or not files[1].writable:
        raise Errno("EBADF")
    return files


def _position(k: Kernel, t: Task, file: OpenFile, addr: int) -> int | None:
    """The offset at `addr`, if one is given. Errno ESPIPE, EFAULT, EINVAL."""
    if not addr:
        return None
    if _is_pipe(file):
        raise Errno("ESPIPE")
    at = usermem.get_u64(k, t, addr)
    if not stat.S_ISREG(file.inode.mode) or at >> 63:
        raise Errno("EINVAL")
    return at


def sys_splice(k: Kernel, t: Task, a: Args) -> Outcome:
    length, flags = min(a[4], TRANSFER_MAX), a[5] & 0xFFFF_FFFF
    if not length:
        return 0
    if flags & ~_FLAGS:
        raise Errno("EINVAL")
    source, out = _ends(t, a[0], a[2])
    in_at, out_at = _position(k, t, source, a[1]), _position(k, t, out, a[3])
    pipes = [file for file in (source, out) if _is_pipe(file)]
    if not pipes or source.inode is out.inode or (out.flags & O_APPEND and not _is_pipe(out)):
        raise Errno("EINVAL")
    if any(stat.S_IFMT(file.inode.mode) not in _SPLICED for file in (source, out)):
        raise Errno("EINVAL")
    nonblock = bool(flags & SPLICE_F_NONBLOCK or any(p.flags & O_NONBLOCK for p in pipes))
    if _is_pipe(out):
        length = min(length, _room(k, t, out))
        if not length:
            return _asleep(t, out, nonblock)
    data = source.peek(k, t, length) if in_at is None else source.peek_at(k, t, length, in_at)
    if data is None:
        return _asleep(t, source, nonblock)
    done = 0
    if data:
        moved = out.write(k, t, data) if out_at is None else out.write_at(k, t, data, out_at)
        if moved is None:
            return _asleep(t, out, nonblock)
        done = moved
    if in_at is None:
        source.advance(k, done)
    for addr, at in ((a[3], out_at), (a[1], in_at)):
        if at is not None:
            usermem.put_u64(k, t, addr, at + done)
    fsnotify.used(k, source.inode, IN_ACCESS, done)
    fsnotify.used(k, out.inode, IN_MODIFY, done)
    return done


def sys_tee(k: Kernel, t: Task, a: Args) -> Outcome:
    """The bytes stay in the first pipe."""
    length, flags = min(a[2], TRANSFER_MAX), a[3] & 0xFFFF_FFFF
    if flags & ~_FLAGS:
        raise Errno("EINVAL")
    if not length:
        return 0
    source, out = _ends(t, a[0], a[1])
    if not _is_pipe(source) or not _is_pipe(out) or source.inode is out.inode:
        raise Errno("EINVAL")
    nonblock = bool(flags & SPLICE_F_NONBLOCK or (source.flags | out.flags) & O_NONBLOCK)
    data = source.peek(k, t, length)
    if data is None:
        return _asleep(t, source, nonblock)
    room = _room(k, t, out)
    if not room:
        return _asleep(t, out, nonblock)
    return out.write(k, t, data[:room]) or 0


def sys_vmsplice(k: Kernel, t: Task, a: Args) -> Outcome:
    """Into the writing end of a pipe, or out of the reading end. O_NONBLOCK does not matter."""
    flags = a[3] & 0xFFFF_FFFF
    if flags & ~_FLAGS:
        raise Errno("EINVAL")
    pipe, nonblock = t.files.get(a[0]), bool(flags & SPLICE_F_NONBLOCK)
    iov = get_iov(k, t, a[1], a[2])
    if not total(iov):
        return 0
    if not _is_pipe(pipe):
        raise Errno("EBADF")
    if pipe.writable:
        room = _room(k, t, pipe)
        if not room:
            return _asleep(t, pipe, nonblock)
        return pipe.write(k, t, gather(k, t, iov)[:room]) or 0
    data = pipe.peek(k, t, total(iov))
    if data is None:
        return _asleep(t, pipe, nonblock)
    done = scatter(k, t, iov, data, record=pipe.recorded) if data else 0
    pipe.advance(k, done)
    return done


_BYTES: Final = "copies: the small buffers of a pipe are packed into whole pages"

CALLS: Final = (
    Call("splice", sys_splice, why=_BYTES),
    Call("tee", sys_tee, why=_BYTES),
    Call("vmsplice", sys_vmsplice, why="copies: the pages are not shared with the pipe"),
)
