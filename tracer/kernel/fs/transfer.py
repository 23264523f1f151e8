"""Bytes between guest memory and open files: read, write and their families, sendfile, lseek…"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    IN_ACCESS,
    IN_MODIFY,
    O_APPEND,
    O_NONBLOCK,
    PAGE,
    RWF_APPEND,
    RWF_DSYNC,
    RWF_HIPRI,
    RWF_NOAPPEND,
    RWF_NOWAIT,
    RWF_SYNC,
    SEEK_HOLE,
)
from shstk.tracer.kernel.call import RESTART, Args, Call, Outcome, Wait, i64
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.inode import Directory, Regular
from shstk.tracer.kernel.fs.regular import DirectoryFile, RegularFile, check_size
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

# Linux moves at most 0x7ffff000 bytes a call. A short transfer is legal, and this limit bounds the
# memory that a guest can make the host allocate.
TRANSFER_MAX: Final = 64 << 20
IOV_MAX: Final = 1024
_RWF_KNOWN: Final = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND
_POSITION: Final = 2**64 - 1  # preadv2's offset -1: the file's own position

Iov = list[tuple[int, int]]  # address, length


def get_iov(k: Kernel, t: Task, addr: int, count: int) -> Iov:
    """import_iovec(): struct iovec[count], truncated to TRANSFER_MAX bytes in total.

    Errno EINVAL, EFAULT (the array, or an address that no process can have)."""
    if count > IOV_MAX:
        raise Errno("EINVAL")
    parts = list(struct.iter_unpack("<QQ", usermem.get(k, t, addr, 16 * count)))
    if any(length >= 1 << 63 for _, length in parts):
        raise Errno("EINVAL")
    parts = cut(parts)
    for at, length in parts:
        _check_range(at, length)
    return parts


def _check_range(addr: int, length: int) -> None:
    """access_ok(). Errno EFAULT."""
    if not usermem.access_ok(addr, length):
        raise Errno("EFAULT")


def cut(parts: Iov) -> Iov:
    left, out = TRANSFER_MAX, []
    for addr, length in parts:
        out.append((addr, min(length, left)))
        left -= out[-1][1]
    return out


def total(iov: Iov) -> int:
    return sum(length for _, length in iov)


def _pages(addr: int, length: int) -> Iov:
    """A range, split at page boundaries."""
    out, at, end = [], addr, addr + length
    while at < end:
        stop = min(end, (at | (PAGE - 1)) + 1)
        out.append((at, stop - at))
        at = stop
    return out


def scatter(k: Kernel, t: Task, iov: Iov, data: bytes, record: bool) -> int:
    """copy_to_user of as much as possible; EFAULT if nothing can be copied."""
    done = 0
    for addr, length in iov:
        piece = data[done : done + length]
        try:
            usermem.put(k, t, addr, piece, record)
            done += len(piece)
        except Errno:
            for at, size in _pages(addr, len(piece)):
                try:
                    usermem.put(k, t, at, data[done : done + size], record)
                except Errno:
                    break
                done += size
            if not done:
                raise
            break
    return done


def gather(k: Kernel, t: Task, iov: Iov) -> bytes:
    """copy_from_user of as much as possible; EFAULT if nothing can be copied."""
    out = bytearray()
    for addr, length in iov:
        try:
            out += usermem.get(k, t, addr, length)
        except Errno:
            for at, size in _pages(addr, length):
                try:
                    out += usermem.get(k, t, at, size)
                except Errno:
                    break
            if not out:
                raise
            break
    return bytes(out)


def _unbroken(file: OpenFile, n: int) -> int:
    """The bytes transferred if a copy faults after n bytes. Errno EFAULT: none."""
    moved = file.unbroken(n)
    if not moved:
        raise Errno("EFAULT")
    return moved


def interrupted(deadline: int | None) -> Outcome:
    """sock_intr_errno(): a call with a timeout is not restarted."""
    if deadline is not None:
        raise Errno("EINTR")
    return RESTART


def would_block(
    k: Kernel, t: Task, file: OpenFile, writes: bool = False, never: bool = False
) -> Outcome:
    """The outcome for a file that isn't ready: EAGAIN, sleep, or restart after a signal.
    never: the call may not sleep."""
    if never or file.flags & O_NONBLOCK:
        raise Errno("EAGAIN")
    deadline = file.deadline(k, t, writes)
    if t.blocked is not None and t.blocked.woken == "signal":
        return interrupted(deadline)
    if deadline is not None and k.now_ns() >= deadline:
        raise Errno("EAGAIN")
    return Wait("file", file.key, deadline)


@dataclass
class Progress:
    """How far a call has got that continues after it slept."""

    done: int = 0  # bytes of a write, or of the message that is being sent
    messages: int = 0  # messages that sendmmsg or recvmmsg has finished
    until: int | None = None  # now_ns at which recvmmsg's timeout ends


def progress(t: Task) -> Progress:
    assert t.blocked is not None
    if not isinstance(t.blocked.state, Progress):
        t.blocked.state = Progress()
    return t.blocked.state


# The checks, in the order of fs/read_write.c. `at`: the offset; None: the file's own position.


def _at(t: Task, fd: int, offset: int) -> OpenFile:
    """ksys_pread64(): the offset is checked before the descriptor, and whether the file has
    offsets (FMODE_PREAD) before its access mode."""
    if offset >= 1 << 63:
        raise Errno("EINVAL")
    file = t.files.get(fd)
    if not file.positioned:
        raise Errno("ESPIPE")
    return file


def _check_read(file: OpenFile) -> None:
    """FMODE_READ, FMODE_CAN_READ."""
    if not file.readable:
        raise Errno("EBADF")
    if not file.can_read:
        raise Errno("EINVAL")


def _check_write(file: OpenFile) -> None:
    if not file.writable:
        raise Errno("EBADF")
    if not file.can_write:
        raise Errno("EINVAL")


def _check_rwf(file: OpenFile, flags: int) -> int:
    """kiocb_set_rw_flags(). tmpfs has neither atomic writes nor RWF_DONTCACHE."""
    flags &= 0xFFFF_FFFF
    if flags & ~_RWF_KNOWN:
        raise Errno("EOPNOTSUPP")
    if flags & RWF_APPEND and flags & RWF_NOAPPEND:
        raise Errno("EINVAL")
    if flags & RWF_NOWAIT and not file.nowait:
        raise Errno("EOPNOTSUPP")
    return flags


def _one(file: OpenFile, a: Args, at: int | None) -> Iov:
    """vfs_read(): the buffer of read and its kin. A length that is negative fails access_ok()."""
    _check_range(a[1], a[2])
    _check_area(file, at, a[2])
    return cut([(a[1], a[2])])


def _check_area(file: OpenFile, at: int | None, length: int) -> None:
    """rw_verify_area(): a transfer ends below 2**63."""
    start = file.pos if at is None else at
    if isinstance(file, RegularFile) and start + length >= 1 << 63:
        raise Errno("EINVAL")


def _read(k: Kernel, t: Task, file: OpenFile, iov: Iov, at: int | None, flags: int = 0) -> Outcome:
    n = total(iov)
    data = file.peek(k, t, n) if at is None else file.peek_at(k, t, n, at)
    if data is None:
        return would_block(k, t, file, never=bool(flags & RWF_NOWAIT))
    done = scatter(k, t, iov, data, file.recorded)
    if at is None:
        if done < len(data):
            done = _unbroken(file, done)
        file.advance(k, done)
    fsnotify.used(k, file.inode, IN_ACCESS, done)
    return done


def _write(k: Kernel, t: Task, file: OpenFile, iov: Iov, at: int | None, flags: int = 0) -> Outcome:
    """A blocking write continues until everything is written."""
    file.admit(k, t, total(iov))
    data = bytes(total(iov)) if file.ignores_data else gather(k, t, iov)
    if isinstance(file, RegularFile):
        appends = bool(flags & RWF_APPEND or (file.flags & O_APPEND and not flags & RWF_NOAPPEND))
        done = file.store(k, t, data, at, appends)
        fsnotify.used(k, file.inode, IN_MODIFY, done)
        return done
    if at is not None:
        done = file.write_at(k, t, data, at)
        fsnotify.used(k, file.inode, IN_MODIFY, done)
        return done
    if len(data) < total(iov):
        data = data[: _unbroken(file, len(data))]
    so_far = progress(t)
    done = so_far.done
    while True:
        try:
            n = file.write(k, t, data[done:])
        except Errno:
            if done:
                return done
            raise
        if n is None:
            never = bool(file.flags & O_NONBLOCK or flags & RWF_NOWAIT)
            if done and (never or (t.blocked and t.blocked.woken == "signal")):
                return done
            so_far.done = done
            return would_block(k, t, file, writes=True, never=never)
        done += n
        fsnotify.used(k, file.inode, IN_MODIFY, n)
        if done >= len(data) or n == 0:
            return done


def _read_one(k: Kernel, t: Task, file: OpenFile, a: Args, at: int | None) -> Outcome:
    _check_read(file)
    iov = _one(file, a, at)
    return _read(k, t, file, iov, at) if a[2] or file.reads_nothing else 0


def _write_one(k: Kernel, t: Task, file: OpenFile, a: Args, at: int | None) -> Outcome:
    _check_write(file)
    return _write(k, t, file, _one(file, a, at), at)


def _read_vector(
    k: Kernel, t: Task, file: OpenFile, a: Args, at: int | None, flags: int = 0
) -> Outcome:
    """vfs_readv(): the array is checked first, and the flags only if there is anything to read."""
    iov = get_iov(k, t, a[1], a[2])
    _check_read(file)
    if not total(iov):
        return 0
    _check_area(file, at, total(iov))
    return _read(k, t, file, iov, at, _check_rwf(file, flags))


def _write_vector(
    k: Kernel, t: Task, file: OpenFile, a: Args, at: int | None, flags: int = 0
) -> Outcome:
    iov = get_iov(k, t, a[1], a[2])
    _check_write(file)
    if not total(iov):
        return 0
    _check_area(file, at, total(iov))
    return _write(k, t, file, iov, at, _check_rwf(file, flags))


def sys_read(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read_one(k, t, t.files.get(a[0]), a, None)


def sys_write(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write_one(k, t, t.files.get(a[0]), a, None)


def sys_readv(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read_vector(k, t, t.files.get(a[0]), a, None)


def sys_writev(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write_vector(k, t, t.files.get(a[0]), a, None)


def sys_pread64(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read_one(k, t, _at(t, a[0], a[3]), a, a[3])


def sys_pwrite64(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write_one(k, t, _at(t, a[0], a[3]), a, a[3])


def sys_preadv(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read_vector(k, t, _at(t, a[0], a[3]), a, a[3])


def sys_pwritev(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write_vector(k, t, _at(t, a[0], a[3]), a, a[3])


def sys_preadv2(k: Kernel, t: Task, a: Args) -> Outcome:
    own = a[3] == _POSITION
    file = t.files.get(a[0]) if own else _at(t, a[0], a[3])
    return _read_vector(k, t, file, a, None if own else a[3], a[5])


def sys_pwritev2(k: Kernel, t: Task, a: Args) -> Outcome:
    own = a[3] == _POSITION
    file = t.files.get(a[0]) if own else _at(t, a[0], a[3])
    return _write_vector(k, t, file, a, None if own else a[3], a[5])


def sys_lseek(k: Kernel, t: Task, a: Args) -> int:
    file, whence = t.files.get(a[0]), a[2] & 0xFFFF_FFFF
    if whence > SEEK_HOLE:
        raise Errno("EINVAL")
    return file.seek(k, i64(a[1]), whence)


def sys_getdents64(k: Kernel, t: Task, a: Args) -> int:
    file = t.files.get(a[0])
    if not isinstance(file, DirectoryFile):
        raise Errno("ENOTDIR")
    records, file_pos = file.entries(k, min(a[2] & 0xFFFF_FFFF, TRANSFER_MAX))
    usermem.put(k, t, a[1], records)
    file.pos = file_pos
    fsnotify.used(k, file.inode, IN_ACCESS, len(records))
    return len(records)


def _carry(
    k: Kernel,
    t: Task,
    out: OpenFile,
    source: OpenFile,
    in_at: int | None,
    out_at: int | None,
    n: int,
) -> tuple[int, Outcome]:
    """Move bytes from file to file: (bytes moved, outcome of the call)."""
    n = min(n, TRANSFER_MAX)
    data = source.peek(k, t, n) if in_at is None else source.peek_at(k, t, n, in_at)
    if data is None:
        return 0, would_block(k, t, source)
    if not data:
        return 0, 0
    done = out.write(k, t, data) if out_at is None else out.write_at(k, t, data, out_at)
    if done is None:
        return 0, would_block(k, t, out, writes=True)
    if in_at is None:
        source.advance(k, done)
    fsnotify.used(k, source.inode, IN_ACCESS, done)
    fsnotify.used(k, out.inode, IN_MODIFY, done)
    return done, done


def _get_offset(k: Kernel, t: Task, addr: int) -> int | None:
    return usermem.get_u64(k, t, addr) if addr else None


def _need(t: Task, fd: int, mode: str) -> OpenFile:
    """The file of a descriptor with this access mode: "readable" or "writable"."""
    file = t.files.get(fd)
    if not getattr(file, mode):
        raise Errno("EBADF")
    return file


def sys_sendfile(k: Kernel, t: Task, a: Args) -> Outcome:
    """The offset is read before anything else is checked, and stored again even after an error."""
    at = _get_offset(k, t, a[2])
    moved = 0
    try:
        moved, outcome = _sendfile(k, t, a, at)
    finally:
        if at is not None:
            usermem.put_u64(k, t, a[2], at + moved)
    return outcome


def _sendfile(k: Kernel, t: Task, a: Args, at: int | None) -> tuple[int, Outcome]:
    """do_sendfile(). The input must have offsets, unless the output is a pipe, and both must know
    how to splice."""
    source = _need(t, a[1], "readable")
    if at is not None and not source.positioned:
        raise Errno("ESPIPE")
    if (source.pos if at is None else at) + a[3] >= 1 << 63:
        raise Errno("EINVAL")
    out = _need(t, a[0], "writable")
    into_pipe = stat.S_ISFIFO(out.inode.mode)
    if not source.splices_out or not out.splices_in or not (source.seekable or into_pipe):
        raise Errno("EINVAL")
    if out.flags & O_APPEND and not into_pipe:
        raise Errno("EINVAL")
    return _carry(k, t, out, source, at, None, a[3])


def sys_copy_file_range(k: Kernel, t: Task, a: Args) -> Outcome:
    """vfs_copy_file_range(), generic_copy_file_checks(): both descriptors, both offsets, the flags,
    the kinds of the files, and only then their access modes."""
    source, out = t.files.get(a[0]), t.files.get(a[2])
    in_at, out_at = _get_offset(k, t, a[1]), _get_offset(k, t, a[3])
    if a[5] & 0xFFFF_FFFF:
        raise Errno("EINVAL")
    for file in (source, out):
        if isinstance(file.inode, Directory):
            raise Errno("EISDIR")
    for file in (source, out):
        if not isinstance(file.inode, Regular):
            raise Errno("EINVAL")
    if not source.readable or not out.writable or out.flags & O_APPEND:
        raise Errno("EBADF")
    if source.inode.dev != out.inode.dev:
        raise Errno("EXDEV")
    start, to = (f.pos if at is None else at for f, at in ((source, in_at), (out, out_at)))
    if start + a[4] >= 1 << 64 or to + a[4] >= 1 << 64:
        raise Errno("EOVERFLOW")
    source.inode.see(k)
    n = min(a[4], max(source.inode.size - start, 0))
    if n:
        check_size(k, t, to + 1)
    if source.inode is out.inode and to + n > start and to < start + n:
        raise Errno("EINVAL")
    if start + n >= 1 << 63 or to + n >= 1 << 63:
        raise Errno("EINVAL")
    if not n:
        return 0
    done, outcome = _carry(k, t, out, source, in_at, out_at, n)
    for addr, at in ((a[1], in_at), (a[3], out_at)):
        if at is not None and done:
            usermem.put_u64(k, t, addr, at + done)
    return outcome


_FLAGS: Final = "no RWF_ATOMIC, RWF_DONTCACHE, RWF_NOSIGNAL: -EOPNOTSUPP"

CALLS: Final = (
    Call("getdents64", sys_getdents64),
    Call("lseek", sys_lseek),
    Call("read", sys_read),
    Call("write", sys_write),
    Call("readv", sys_readv),
    Call("writev", sys_writev),
    Call("pread64", sys_pread64),
    Call("pwrite64", sys_pwrite64),
    Call("preadv", sys_preadv),
    Call("pwritev", sys_pwritev),
    Call("sendfile", sys_sendfile),
    Call("copy_file_range", sys_copy_file_range),
    Call("preadv2", sys_preadv2, why=_FLAGS),
    Call("pwritev2", sys_pwritev2, why=_FLAGS),
)
