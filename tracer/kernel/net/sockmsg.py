"""One message of a socket, to and from guest memory: struct msghdr and its control messages."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    O_NONBLOCK,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.transfer import IOV_MAX, Iov, gather, get_iov, progress, scatter, total
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.net.names import get_sockaddr
from shstk.tracer.kernel.net.sockets import CAPACITY, RECEIVE, Socket
from shstk.tracer.kernel.task import UID

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_SCM_RIGHTS, _SCM_CREDENTIALS = 1, 2
_FD_MAX: Final = 253  # SCM_MAX_FD
_MSGHDR: Final = struct.Struct("<QI4xQQQQ")  # name, namelen, iov, iovlen, control, controllen
_CMSGHDR: Final = struct.Struct("<Qii")  # len, level, type
_CONTROL_MAX: Final = 1 << 17  # net.core.optmem_max


class Header(NamedTuple):
    """name: the receiver's struct sockaddr, of a message that is sent. name_at and name_size: where
    the sender's is stored."""

    name: bytes
    name_at: int
    name_size: int
    iov: Iov
    control_at: int = 0
    control_size: int = 0


def get_header(k: Kernel, t: Task, addr: int, sends: bool) -> Header:
    """copy_msghdr_from_user(). Errno EFAULT, EINVAL, EMSGSIZE."""
    name_at, name_size, iov_at, count, control_at, size = _MSGHDR.unpack(
        usermem.get(k, t, addr, 48)
    )
    if name_size >> 31:
        raise Errno("EINVAL")
    name_size = min(name_size, 128) if name_at else 0
    name = get_sockaddr(k, t, name_at, name_size) if sends and name_size else b""
    if count > IOV_MAX:
        raise Errno("EMSGSIZE")
    iov = get_iov(k, t, iov_at, count)
    return Header(name, name_at, name_size, iov, control_at, size if control_at else 0)


def gather_all(k: Kernel, t: Task, iov: Iov) -> bytes:
    """A message that can't be read to its end is not sent. Errno EFAULT."""
    data = gather(k, t, iov)
    if len(data) < total(iov):
        raise Errno("EFAULT")
    return data


def rights(k: Kernel, t: Task, head: Header) -> list[OpenFile]:
    """The files that a message carries. Errno: ENOBUFS, EINVAL, EBADF, EPERM (foreign
    credentials)."""
    files: list[OpenFile] = []
    if head.control_size >= _CONTROL_MAX:
        raise Errno("ENOBUFS")
    data = usermem.get(k, t, head.control_at, head.control_size)
    at = 0
    while at + _CMSGHDR.size <= len(data):
        length, level, kind = _CMSGHDR.unpack_from(data, at)
        if not _CMSGHDR.size <= length <= len(data) - at:
            raise Errno("EINVAL")
        body = data[at + _CMSGHDR.size : at + length]
        at += (length + 7) & ~7
        if level != SOL_SOCKET:
            continue
        if kind == _SCM_RIGHTS:
            fds = struct.unpack(f"<{len(body) // 4}I", body[: len(body) & ~3])
            if len(fds) > _FD_MAX:
                raise Errno("EINVAL")
            files += [t.files.get(fd, path_only=True) for fd in fds]
        elif kind == _SCM_CREDENTIALS:
            if len(body) != 12:
                raise Errno("EINVAL")
            if struct.unpack("<iII", body) != (t.pid, UID, UID):
                raise Errno("EPERM")
        else:
            raise Errno("EINVAL")
    if len(files) > _FD_MAX:
        raise Errno("EINVAL")
    return files


def send(
    k: Kernel,
    t: Task,
    sock: Socket,
    data: bytes,
    flags: int,
    to: Socket | None,
    files: list[OpenFile],
) -> int | None:
    """The number of bytes sent; None if it would block. A stream continues until all is sent."""
    assert t.blocked is not None
    so_far = progress(t)
    done = so_far.done
    while True:
        try:
            own = files if not done else []
            n = sock.send(k, t, data[done:], own, to, quiet=bool(flags & MSG_NOSIGNAL))
        except Errno:
            if done:
                return done
            raise
        if n is None:
            waits = not (sock.flags & O_NONBLOCK or flags & MSG_DONTWAIT)
            if done and (not waits or t.blocked.woken == "signal"):
                return done
            so_far.done = done
            return None
        done += n
        if done >= len(data):
            return done


class Received(NamedTuple):
    """result: of the call. files: owned by the caller now. pid: the sender's."""

    result: int
    flags: int
    sender: bytes
    pid: int | None
    files: list[OpenFile]

    def control(self, k: Kernel, t: Task, sock: Socket, room: int, flags: int) -> tuple[bytes, int]:
        """At most `room` bytes of control messages, and MSG_CTRUNC if that was too little. Installs
        descriptors for the files."""
        out = b""
        cut_off = 0
        if sock.passcred and self.pid is not None:
            out = _cmsg(_SCM_CREDENTIALS, struct.pack("<iII", self.pid, UID, UID))
            if len(out) > room:
                out, cut_off = b"", MSG_CTRUNC
        fds: list[int] = []
        places = max(room - len(out) - _CMSGHDR.size, 0) // 4
        for file in self.files:
            if len(fds) < places:
                try:
                    fds.append(t.files.add(t, file, bool(flags & MSG_CMSG_CLOEXEC)))
                except Errno:
                    places = 0
            file.put(k)
        if len(fds) < len(self.files):
            cut_off = MSG_CTRUNC
        if fds:
            out += _cmsg(_SCM_RIGHTS, struct.pack(f"<{len(fds)}i", *fds))
        return out[:room], cut_off


def _cmsg(kind: int, body: bytes) -> bytes:
    """A control message, padded as put_cmsg does."""
    size = _CMSGHDR.size + len(body)
    return (_CMSGHDR.pack(size, SOL_SOCKET, kind) + body).ljust((size + 7) & ~7, b"\0")


def _copy_out(k: Kernel, t: Task, sock: Socket, iov: Iov, data: bytes, flags: int) -> int:
    """The number of bytes copied to the caller. Errno EFAULT: none, but a datagram is consumed."""
    done = 0
    with suppress(Errno):
        done = scatter(k, t, iov, data, record=True) if data else 0
    moved = done if done == len(data) else sock.unbroken(done)
    if data and not moved:
        if sock.kind != SOCK_STREAM and not flags & MSG_PEEK:
            sock.advance(k, len(data))
        raise Errno("EFAULT")
    return moved


def _receive_urgent(k: Kernel, t: Task, sock: Socket, iov: Iov, flags: int) -> Received:
    """tcp_recv_urg(). Errno EINVAL: there is no urgent byte, it has been read, or it is in line."""
    urgent = sock.urgent
    if urgent is None or urgent.told or sock.takes_urgent_inline:
        raise Errno("EINVAL")
    done = scatter(k, t, iov, bytes(urgent.data), record=True) if total(iov) else 0
    urgent.told = not flags & MSG_PEEK
    return Received(done, MSG_OOB | (0 if done else MSG_TRUNC), urgent.sender, urgent.pid, [])


def receive(k: Kernel, t: Task, sock: Socket, iov: Iov, flags: int) -> Received | None:
    """None if nothing has arrived yet."""
    sock.check_receive(flags)
    room = total(iov)
    stream = sock.kind == SOCK_STREAM
    if stream and flags & MSG_OOB:
        return _receive_urgent(k, t, sock, iov, flags)
    data = sock.peek(k, t, room)
    if data is None:
        return None
    if not data and not any(sock.next_messages(passes=True) if stream else sock.inbox):
        return Received(0, 0, b"", None, [])
    if stream and flags & MSG_WAITALL and not flags & MSG_PEEK and not sock.ends_a_read:
        over = sock.shut & RECEIVE or (t.blocked is not None and t.blocked.woken == "signal")
        if sock.queued < min(room, CAPACITY // 4) and not over:
            return None
    first = next(sock.next_messages(passes=True)) if stream else sock.inbox[0]
    whole = len(data) if stream else len(first.data)
    done = _copy_out(k, t, sock, iov, data, flags)
    if flags & MSG_PEEK:
        files = first.files
        for file in files:
            file.refs += 1
    else:
        files = sock.take(k, done)
    cut_off = MSG_TRUNC if whole > done else 0
    result = whole if flags & MSG_TRUNC and not stream else done
    sender = b"" if sock.kind == SOCK_SEQPACKET else first.sender
    return Received(result, cut_off, sender, first.pid, files)
