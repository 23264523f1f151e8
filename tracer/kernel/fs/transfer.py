"""Bytes between guest memory and open files: read, write and their families, sendfile, lseek…"""

from __future__ import annotations

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
    RWF_NOWAIT,
    RWF_SYNC,
)
from shstk.tracer.kernel.call import RESTART, Args, Call, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.inode import Directory, Regular
from shstk.tracer.kernel.fs.regular import DirectoryFile, RegularFile
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

# Linux moves at most 0x7ffff000 bytes a call. A short transfer is legal, and this limit bounds the
# memory that a guest can make the host allocate.
TRANSFER_MAX: Final = 64 << 20
IOV_MAX: Final = 1024
_RWF_KNOWN: Final = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND

Iov = list[tuple[int, int]]  # address, length


def get_iov(k: Kernel, t: Task, addr: int, count: int) -> Iov:
    """struct iovec[count], truncated to TRANSFER_MAX bytes in total."""
    count &= 0xFFFF_FFFF
    if count > IOV_MAX:
        raise Errno("EINVAL")
    parts = list(struct.iter_unpack("<QQ", usermem.get(k, t, addr, 16 * count)))
    if any(length >= 1 << 63 for _, length in parts):
        raise Errno("EINVAL")
    return cut(parts)


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


def _readable(t: Task, fd: int) -> OpenFile:
    file = t.files.get(fd)
    if not file.readable:
        raise Errno("EBADF")
    return file


def _writable(t: Task, fd: int) -> OpenFile:
    file = t.files.get(fd)
    if not file.writable:
        raise Errno("EBADF")
    return file


def would_block(t: Task, file: OpenFile, deadline_ns: int | None = None) -> Outcome:
    """The outcome for a file that isn't ready: EAGAIN, sleep, or restart after a signal."""
    if file.flags & O_NONBLOCK:
        raise Errno("EAGAIN")
    if t.blocked is not None and t.blocked.woken == "signal":
        return RESTART
    return Wait("file", file.key, deadline_ns)


@dataclass
class Progress:
    """How far a call has got that continues after it slept."""

    done: int = 0  # bytes of a write, or of the message that is being sent
    messages: int = 0  # messages that sendmmsg or recvmmsg has finished


def progress(t: Task) -> Progress:
    assert t.blocked is not None
    if not isinstance(t.blocked.state, Progress):
        t.blocked.state = Progress()
    return t.blocked.state


def _read(k: Kernel, t: Task, fd: int, iov: Iov) -> Outcome:
    file = _readable(t, fd)
    n = total(iov)
    if not n and not isinstance(file.inode, Directory):
        return 0
    data = file.peek(k, t, n)
    if data is None:
        return would_block(t, file, file.deadline(k, t))
    done = scatter(k, t, iov, data, file.recorded)
    if done < len(data):
        done = _unbroken(file, done)
    file.advance(k, done)
    fsnotify.used(k, file.inode, IN_ACCESS, done)
    return done


def _write(k: Kernel, t: Task, fd: int, iov: Iov) -> Outcome:
    """A blocking write continues until everything is written."""
    file = _writable(t, fd)
    data = bytes(total(iov)) if file.ignores_data else gather(k, t, iov)
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
            if done and (file.flags & O_NONBLOCK or (t.blocked and t.blocked.woken == "signal")):
                return done
            so_far.done = done
            return would_block(t, file)
        done += n
        fsnotify.used(k, file.inode, IN_MODIFY, n)
        if done >= len(data) or n == 0 or isinstance(file, RegularFile):
            return done


def _offset(value: int) -> int:
    if value >= 1 << 63:
        raise Errno("EINVAL")
    return value


def _read_at(k: Kernel, t: Task, fd: int, iov: Iov, offset: int) -> int:
    file = _readable(t, fd)
    data = file.peek_at(k, t, total(iov), _offset(offset))
    done = scatter(k, t, iov, data, file.recorded)
    fsnotify.used(k, file.inode, IN_ACCESS, done)
    return done


def _write_at(k: Kernel, t: Task, fd: int, iov: Iov, offset: int) -> int:
    file = _writable(t, fd)
    done = file.write_at(k, t, gather(k, t, iov), _offset(offset))
    fsnotify.used(k, file.inode, IN_MODIFY, done)
    return done


def _one(a: Args) -> Iov:
    if a[2] >= 1 << 63:
        raise Errno("EINVAL")
    return cut([(a[1], a[2])])


def sys_read(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read(k, t, a[0], _one(a))


def sys_write(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write(k, t, a[0], _one(a))


def sys_readv(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read(k, t, a[0], get_iov(k, t, a[1], a[2]))


def sys_writev(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write(k, t, a[0], get_iov(k, t, a[1], a[2]))


def sys_pread64(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read_at(k, t, a[0], _one(a), a[3])


def sys_pwrite64(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write_at(k, t, a[0], _one(a), a[3])


def sys_preadv(k: Kernel, t: Task, a: Args) -> Outcome:
    return _read_at(k, t, a[0], get_iov(k, t, a[1], a[2]), a[3])


def sys_pwritev(k: Kernel, t: Task, a: Args) -> Outcome:
    return _write_at(k, t, a[0], get_iov(k, t, a[1], a[2]), a[3])


def sys_preadv2(k: Kernel, t: Task, a: Args) -> Outcome:
    """Offset -1 is the file's own position; the flags are hints."""
    if a[5] & ~_RWF_KNOWN:
        raise Errno("EOPNOTSUPP")
    return sys_readv(k, t, a) if a[3] == 2**64 - 1 else sys_preadv(k, t, a)


def sys_pwritev2(k: Kernel, t: Task, a: Args) -> Outcome:
    if a[5] & ~_RWF_KNOWN or a[5] & RWF_APPEND:
        raise Errno("EOPNOTSUPP")
    return sys_writev(k, t, a) if a[3] == 2**64 - 1 else sys_pwritev(k, t, a)


def sys_lseek(k: Kernel, t: Task, a: Args) -> int:
    offset = a[1] - (1 << 64) if a[1] >> 63 else a[1]
    return t.files.get(a[0]).seek(k, offset, a[2] & 0xFFFF_FFFF)


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
        return 0, would_block(t, source)
    if not data:
        return 0, 0
    done = out.write(k, t, data) if out_at is None else out.write_at(k, t, data, out_at)
    if done is None:
        return 0, would_block(t, out)
    if in_at is None:
        source.advance(k, done)
    fsnotify.used(k, source.inode, IN_ACCESS, done)
    fsnotify.used(k, out.inode, IN_MODIFY, done)
    return done, done


def _get_offset(k: Kernel, t: Task, addr: int) -> int | None:
    return _offset(usermem.get_u64(k, t, addr)) if addr else None


def sys_sendfile(k: Kernel, t: Task, a: Args) -> Outcome:
    out, source = _writable(t, a[0]), _readable(t, a[1])
    if out.flags & O_APPEND or isinstance(source.inode, Directory):
        raise Errno("EINVAL")
    at = _get_offset(k, t, a[2])
    done, outcome = _carry(k, t, out, source, at, None, a[3])
    if at is not None and done:
        usermem.put_u64(k, t, a[2], at + done)
    return outcome


def sys_copy_file_range(k: Kernel, t: Task, a: Args) -> Outcome:
    source, out = _readable(t, a[0]), _writable(t, a[2])
    if a[5] & 0xFFFF_FFFF:
        raise Errno("EINVAL")
    for file in (source, out):
        if isinstance(file.inode, Directory):
            raise Errno("EISDIR")
        if not isinstance(file.inode, Regular):
            raise Errno("EINVAL")
    if out.flags & O_APPEND:
        raise Errno("EBADF")
    in_at, out_at = _get_offset(k, t, a[1]), _get_offset(k, t, a[3])
    starts = [f.pos if at is None else at for f, at in ((source, in_at), (out, out_at))]
    if source.inode is out.inode and abs(starts[0] - starts[1]) < a[4]:
        raise Errno("EINVAL")
    done, outcome = _carry(k, t, out, source, in_at, out_at, a[4])
    for addr, at in ((a[1], in_at), (a[3], out_at)):
        if at is not None and done:
            usermem.put_u64(k, t, addr, at + done)
    return outcome


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
    Call("preadv2", sys_preadv2, "simple", "flags are hints"),
    Call("pwritev2", sys_pwritev2, "simple", "flags are hints; no RWF_APPEND"),
)
