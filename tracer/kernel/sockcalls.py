"""The system calls of sockets: AF_UNIX alone; there is no network."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final

from tracer.kernel import usermem
from tracer.kernel.call import RESTART, Args, Call, Outcome, Wait
from tracer.kernel.clock import realtime_ns
from tracer.kernel.errno import Errno
from tracer.kernel.files import O_CLOEXEC, O_NONBLOCK
from tracer.kernel.hosttree import text
from tracer.kernel.inode import WRITE
from tracer.kernel.sandbox import AT_FDCWD, find
from tracer.kernel.sockets import (
    BACKLOG_MAX,
    CAPACITY,
    DGRAM,
    RECEIVE,
    SEQPACKET,
    STREAM,
    Socket,
    SocketNode,
)
from tracer.kernel.sockmsg import (
    MSG_DONTWAIT,
    Header,
    get_header,
    receive,
    rights,
    send,
)
from tracer.kernel.task import UID
from tracer.kernel.transfer import cut

if TYPE_CHECKING:
    from tracer.kernel.kernel import Kernel
    from tracer.kernel.task import Task

AF_UNSPEC, AF_UNIX = 0, 1
_FAMILIES: Final = {2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK", 17: "AF_PACKET"}
_SUN_PATH: Final = 108
_U32: Final = 0xFFFF_FFFF
_SOL_SOCKET: Final = 1


def socket_of(t: Task, fd: int) -> Socket:
    file = t.files.get(fd)
    if not isinstance(file, Socket):
        raise Errno("ENOTSOCK")
    return file


def sleep(t: Task, sock: Socket, key: Hashable, flags: int = 0) -> Outcome:
    """About a socket that would block: EAGAIN, sleep, or give way to a signal."""
    if sock.flags & O_NONBLOCK or flags & MSG_DONTWAIT:
        raise Errno("EAGAIN")
    if t.blocked is not None and t.blocked.woken == "signal":
        return RESTART
    return Wait("socket", key)


# Addresses: a sun_path is b"" (none), a path, or a name that begins with NUL (abstract).


def _get_address(k: Kernel, t: Task, addr: int, length: int) -> bytes:
    """Errno EINVAL, EFAULT; EINVAL too for another family."""
    length &= _U32
    if not 2 <= length <= _SUN_PATH + 2:
        raise Errno("EINVAL")
    data = usermem.get(k, t, addr, length)
    if int.from_bytes(data[:2], "little") != AF_UNIX:
        raise Errno("EINVAL")
    name = data[2:]
    if name[:1] != b"\0":
        name = name.split(b"\0")[0]
    usermem.note(k, t, "read", addr, data)
    return name


def _sockaddr(name: bytes) -> bytes:
    end = b"\0" if name and name[:1] != b"\0" else b""
    return AF_UNIX.to_bytes(2, "little") + name + end


def _put_address(k: Kernel, t: Task, addr: int, length_at: int, name: bytes) -> None:
    """move_addr_to_user: as much as there is room for, and the true length."""
    room = usermem.get_u32(k, t, length_at)
    if room >> 31:
        raise Errno("EINVAL")
    data = _sockaddr(name)
    usermem.put(k, t, addr, data[:room])
    usermem.put_u32(k, t, length_at, len(data))


def _named(k: Kernel, t: Task, name: bytes, kind: int) -> Socket:
    """Errno ECONNREFUSED (nobody has it), EPROTOTYPE, and a path's own."""
    if name[:1] == b"\0":
        found = k.abstract_sockets.get(name)
    else:
        inode = find(k, t, AT_FDCWD, text(name)).existing()
        inode.permit(WRITE)
        found = inode.socket if isinstance(inode, SocketNode) else None
    if found is None or found.closed:
        raise Errno("ECONNREFUSED")
    if found.kind != kind:
        raise Errno("EPROTOTYPE")
    return found


# Making them.


def _check_kind(k: Kernel, a: Args) -> tuple[int, int, bool]:
    """(kind, status flags, close-on-exec) of socket's and socketpair's first three arguments."""
    domain, kind, protocol = (v & _U32 for v in a[:3])
    flags = kind & ~0xF
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    if domain != AF_UNIX:
        name = _FAMILIES.get(domain, f"address family {domain}")
        k.warn(f"socket: {name} is not modelled, there is no network (EAFNOSUPPORT)")
        raise Errno("EAFNOSUPPORT")
    if protocol not in (0, AF_UNIX):
        raise Errno("EPROTONOSUPPORT")
    kind = DGRAM if kind & 0xF == 3 else kind & 0xF  # SOCK_RAW
    if kind not in (STREAM, DGRAM, SEQPACKET):
        raise Errno("ESOCKTNOSUPPORT")
    return kind, flags & O_NONBLOCK, bool(flags & O_CLOEXEC)


def sys_socket(k: Kernel, t: Task, a: Args) -> int:
    kind, status, cloexec = _check_kind(k, a)
    return t.files.add(t, Socket(k, kind, status, t.pid), cloexec)


def sys_socketpair(k: Kernel, t: Task, a: Args) -> int:
    kind, status, cloexec = _check_kind(k, a)
    one, other = (Socket(k, kind, status, t.pid) for _ in range(2))
    one.join(other)
    fds: list[int] = []
    try:
        for end in (one, other):
            fds.append(t.files.add(t, end, cloexec))
        usermem.put(k, t, a[3], struct.pack("<2i", *fds))
    except Errno:
        for fd in fds:
            t.files.close(k, fd)
        raise
    return 0


def sys_bind(k: Kernel, t: Task, a: Args) -> int:
    sock = socket_of(t, a[0])
    name = _get_address(k, t, a[1], a[2])
    if sock.name:
        raise Errno("EINVAL")
    if not name:
        name = _unused(k)
    if name[:1] == b"\0":
        if name in k.abstract_sockets:
            raise Errno("EADDRINUSE")
        k.abstract_sockets[name] = sock
    else:
        found = find(k, t, AT_FDCWD, text(name), follow=False)
        if found.inode is not None:
            raise Errno("EADDRINUSE")
        now = realtime_ns(k)
        bits = 0o140777 & ~t.fs.umask
        node = SocketNode(k.sandbox.new_ino(), bits, atime=now, mtime=now, ctime=now, socket=sock)
        found.parent.link(found.name, node, now)
    sock.name = name
    return 0


def _unused(k: Kernel) -> bytes:
    """unix_autobind: five hexadecimal digits."""
    names = (b"\0%05x" % number for number in range(1 << 20))
    return next(name for name in names if name not in k.abstract_sockets)


def sys_listen(k: Kernel, t: Task, a: Args) -> int:
    sock, backlog = socket_of(t, a[0]), a[1] & _U32
    if sock.kind == DGRAM:
        raise Errno("EOPNOTSUPP")
    if not sock.name or sock.connected:
        raise Errno("EINVAL")
    sock.backlog = min(backlog, BACKLOG_MAX)
    sock.pid = t.pid
    sock.notify(k)
    return 0


def sys_connect(k: Kernel, t: Task, a: Args) -> Outcome:
    sock = socket_of(t, a[0])
    if (a[2] & _U32) >= 2 and usermem.get(k, t, a[1], 2) == b"\0\0":
        if sock.kind != DGRAM:
            raise Errno("EINVAL")
        sock.peer = None  # AF_UNSPEC dissolves the association
        return 0
    other = _named(k, t, _get_address(k, t, a[1], a[2]), sock.kind)
    if sock.kind == DGRAM:
        if other.peer not in (None, sock):
            raise Errno("EPERM")
        sock.peer = other
        return 0
    if other.backlog is None or other.shut & RECEIVE:
        raise Errno("ECONNREFUSED")
    if sock.connected:
        raise Errno("EISCONN")
    if sock.backlog is not None:
        raise Errno("EINVAL")
    sock.pid = t.pid
    return 0 if other.arrive(k, sock) else sleep(t, sock, other.key)


def sys_accept4(k: Kernel, t: Task, a: Args) -> Outcome:
    sock, flags = socket_of(t, a[0]), a[3] & _U32
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    if sock.kind == DGRAM:
        raise Errno("EOPNOTSUPP")
    if sock.backlog is None or (sock.shut & RECEIVE and not sock.arrivals):
        raise Errno("EINVAL")
    if not sock.arrivals:
        return sleep(t, sock, sock.key)
    end = sock.arrivals.popleft()
    end.flags |= flags & O_NONBLOCK
    sock.notify(k)
    fd = t.files.add(t, end, bool(flags & O_CLOEXEC))
    if a[1]:
        assert end.peer is not None
        try:
            _put_address(k, t, a[1], a[2], end.peer.name)
        except Errno:
            t.files.close(k, fd)
            raise
    return fd


def sys_accept(k: Kernel, t: Task, a: Args) -> Outcome:
    return sys_accept4(k, t, (a[0], a[1], a[2], 0, 0, 0))


def sys_shutdown(k: Kernel, t: Task, a: Args) -> int:
    sock, how = socket_of(t, a[0]), a[1] & _U32
    if how > 2:
        raise Errno("EINVAL")
    sock.shutdown(k, how + 1)
    return 0


def sys_getsockname(k: Kernel, t: Task, a: Args) -> int:
    _put_address(k, t, a[1], a[2], socket_of(t, a[0]).name)
    return 0


def sys_getpeername(k: Kernel, t: Task, a: Args) -> int:
    peer = socket_of(t, a[0]).peer
    if peer is None:
        raise Errno("ENOTCONN")
    _put_address(k, t, a[1], a[2], peer.name)
    return 0


# Options of SOL_SOCKET.

_SO_PASSCRED: Final = 16
_PLAIN: Final = frozenset((1, 2, 5, 6, 9, 10, 12, 15))  # without effect on AF_UNIX
_SO_SIZES: Final = frozenset((7, 8, 32, 33))  # SO_SNDBUF, RCVBUF and ..FORCE: stay what they are
_SO_TIMEOUTS: Final = frozenset((20, 21))  # SO_RCVTIMEO, SNDTIMEO


def _credentials(pid: int | None) -> bytes:
    """struct ucred; nobody's is pid 0, ids -1."""
    return struct.pack("<iii", 0, -1, -1) if pid is None else struct.pack("<iII", pid, UID, UID)


def _int(value: int) -> bytes:
    return struct.pack("<i", value)


_OPTIONS: Final[dict[int, Callable[[Socket], bytes]]] = {
    3: lambda s: _int(s.kind),  # SO_TYPE
    7: lambda s: _int(CAPACITY),
    8: lambda s: _int(CAPACITY),
    13: lambda s: bytes(8),  # SO_LINGER
    _SO_PASSCRED: lambda s: _int(s.passcred),
    17: lambda s: _credentials(s.peer_pid),  # SO_PEERCRED
    18: lambda s: _int(1),  # SO_RCVLOWAT
    19: lambda s: _int(1),
    20: lambda s: bytes(16),
    21: lambda s: bytes(16),
    30: lambda s: _int(s.backlog is not None),  # SO_ACCEPTCONN
    38: lambda s: _int(0),  # SO_PROTOCOL
    39: lambda s: _int(AF_UNIX),  # SO_DOMAIN
}
_SO_ERROR: Final = 4


def sys_getsockopt(k: Kernel, t: Task, a: Args) -> int:
    sock, level, option = socket_of(t, a[0]), a[1] & _U32, a[2] & _U32
    room = usermem.get_u32(k, t, a[4])
    if room >> 31:
        raise Errno("EINVAL")
    if level != _SOL_SOCKET:
        raise Errno("EOPNOTSUPP")
    if option == _SO_ERROR:
        error = sock.take_error()
        value = _int(Errno(error).number if error else 0)
    elif option in _PLAIN:
        value = _int(0)
    elif option in _OPTIONS:
        value = _OPTIONS[option](sock)
    else:
        raise Errno("ENOPROTOOPT")
    usermem.put(k, t, a[3], value[:room])
    usermem.put_u32(k, t, a[4], min(room, len(value)))
    return 0


def sys_setsockopt(k: Kernel, t: Task, a: Args) -> int:
    sock, level, option, length = socket_of(t, a[0]), a[1] & _U32, a[2] & _U32, a[4] & _U32
    if level != _SOL_SOCKET:
        raise Errno("EOPNOTSUPP")
    if length < 4 or length >> 31:
        raise Errno("EINVAL")
    value = usermem.get_u32(k, t, a[3])
    if option in _SO_TIMEOUTS:
        if length < 16:
            raise Errno("EINVAL")
        if any(usermem.get(k, t, a[3], 16)):
            k.warn("setsockopt: SO_RCVTIMEO and SO_SNDTIMEO are not modelled (ENOPROTOOPT)")
            raise Errno("ENOPROTOOPT")
    elif option == _SO_PASSCRED:
        sock.passcred = bool(value)
    elif option not in _PLAIN | _SO_SIZES | {13, 18}:
        raise Errno("ENOPROTOOPT")
    return 0


# Sending and receiving.


def _send(k: Kernel, t: Task, sock: Socket, head: Header, flags: int) -> Outcome:
    if head.name_at and head.name_size:
        if sock.kind == STREAM:
            raise Errno("EISCONN" if sock.connected else "EOPNOTSUPP")
        name = _get_address(k, t, head.name_at, head.name_size)
        to = sock.peer if sock.kind == SEQPACKET else _named(k, t, name, sock.kind)
    else:
        to = sock.peer
    files = rights(k, t, head)
    outcome = send(k, t, sock, head, flags, to, files)
    if outcome is not None:
        return outcome
    # A datagram waits for its receiver, whose reads notify those it turned away.
    return sleep(t, sock, sock.key, flags)


def sys_sendto(k: Kernel, t: Task, a: Args) -> Outcome:
    head = Header(a[4], a[5] & _U32, cut([(a[1], a[2] & (1 << 63) - 1)]))
    return _send(k, t, socket_of(t, a[0]), head, a[3] & _U32)


def sys_sendmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    return _send(k, t, socket_of(t, a[0]), get_header(k, t, a[1]), a[2] & _U32)


def sys_sendmmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    """struct mmsghdr: a msghdr, and how much was sent."""
    sock = socket_of(t, a[0])
    if not a[2] & _U32:
        return 0
    outcome = _send(k, t, sock, get_header(k, t, a[1]), a[3] & _U32)
    if not isinstance(outcome, int):
        return outcome
    usermem.put_u32(k, t, a[1] + 56, outcome)
    return 1


def sys_recvfrom(k: Kernel, t: Task, a: Args) -> Outcome:
    sock, flags = socket_of(t, a[0]), a[3] & _U32
    got = receive(k, t, sock, cut([(a[1], a[2] & (1 << 63) - 1)]), flags)
    if got is None:
        return sleep(t, sock, sock.key, flags)
    for file in got.files:
        file.let_go(k)
    if a[4]:
        _put_address(k, t, a[4], a[5], got.sender)
    return got.result


def _recvmsg(k: Kernel, t: Task, sock: Socket, addr: int, flags: int) -> Outcome:
    head = get_header(k, t, addr)
    got = receive(k, t, sock, head.iov, flags)
    if got is None:
        return sleep(t, sock, sock.key, flags)
    control, cut_off = got.control(k, t, sock, head.control_size, flags)
    usermem.put(k, t, head.control_at, control)
    if head.name_at:
        name = _sockaddr(got.sender) if got.sender or sock.kind != STREAM else b""
        usermem.put(k, t, head.name_at, name[: head.name_size])
        usermem.put_u32(k, t, addr + 8, len(name))
    usermem.put_u32(k, t, addr + 48, got.flags | cut_off)
    usermem.put_u64(k, t, addr + 40, len(control))
    return got.result


def sys_recvmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    return _recvmsg(k, t, socket_of(t, a[0]), a[1], a[2] & _U32)


def sys_recvmmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    sock = socket_of(t, a[0])
    if not a[2] & _U32:
        return 0
    outcome = _recvmsg(k, t, sock, a[1], a[3] & _U32)
    if not isinstance(outcome, int):
        return outcome
    usermem.put_u32(k, t, a[1] + 56, outcome)
    return 1


CALLS: Final = (
    Call(198, "socket", sys_socket, "modelled", "AF_UNIX; other families: EAFNOSUPPORT"),
    Call(199, "socketpair", sys_socketpair),
    Call(200, "bind", sys_bind),
    Call(201, "listen", sys_listen),
    Call(202, "accept", sys_accept),
    Call(203, "connect", sys_connect),
    Call(204, "getsockname", sys_getsockname),
    Call(205, "getpeername", sys_getpeername),
    Call(206, "sendto", sys_sendto),
    Call(207, "recvfrom", sys_recvfrom),
    Call(208, "setsockopt", sys_setsockopt, "simple", "buffer sizes stay; no timeouts"),
    Call(209, "getsockopt", sys_getsockopt),
    Call(210, "shutdown", sys_shutdown),
    Call(211, "sendmsg", sys_sendmsg),
    Call(212, "recvmsg", sys_recvmsg),
    Call(242, "accept4", sys_accept4),
    Call(243, "recvmmsg", sys_recvmmsg, "simple", "one message a call; no timeout"),
    Call(269, "sendmmsg", sys_sendmmsg, "simple", "one message a call"),
)
