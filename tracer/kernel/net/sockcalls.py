"""The socket calls: AF_UNIX, and AF_INET and AF_INET6 over loopback."""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    AF_VSOCK,
    IN_CREATE,
    MSG_DONTWAIT,
    MSG_WAITFORONE,
    O_CLOEXEC,
    O_NONBLOCK,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
)
from shstk.tracer.kernel.call import RESTART, Args, Call, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import fsnotify
from shstk.tracer.kernel.fs.inode import WRITE
from shstk.tracer.kernel.fs.transfer import cut, gather, progress
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.net.inet import PROTOCOLS, InetSocket, Place, pack, unpack, unspecified
from shstk.tracer.kernel.net.sockets import (
    ABSTRACT_NAMES,
    BACKLOG_MAX,
    RECEIVE,
    Socket,
    SocketNode,
    socket_of,
)
from shstk.tracer.kernel.net.sockmsg import Header, get_header, receive, rights, send
from shstk.tracer.kernel.net.sockopts import SO_RCVTIMEO, SO_SNDTIMEO
from shstk.tracer.kernel.time.clock import get_timespec, pack_timespec, realtime_ns
from shstk.tracer.kernel.tree.hosttree import text
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_FAMILIES: Final = {AF_NETLINK: "AF_NETLINK", AF_PACKET: "AF_PACKET", AF_VSOCK: "AF_VSOCK"}
_SUN_PATH: Final = 108
_MMSGHDR: Final = 64  # sizeof(struct mmsghdr): msg_hdr, msg_len
_MESSAGES_MAX: Final = 1024
_U32: Final = 0xFFFF_FFFF


def sleep(
    k: Kernel, t: Task, sock: Socket, key: Hashable, flags: int = 0, timeout: int = 0
) -> Outcome:
    """The outcome for a socket that would block: EAGAIN, sleep, or restart after a signal.
    timeout: the socket option that limits the sleep, if any."""
    if sock.flags & O_NONBLOCK or flags & MSG_DONTWAIT:
        raise Errno("EAGAIN")
    assert t.blocked is not None
    if t.blocked.woken == "signal":
        return RESTART
    if timeout not in sock.timeouts:
        return Wait("socket", key)
    if t.blocked.expires is None:
        t.blocked.expires = k.now_ns() + sock.timeouts[timeout]
    if k.now_ns() >= t.blocked.expires:
        raise Errno("EAGAIN")
    return Wait("socket", key, t.blocked.expires)


# Names. A sun_path is b"" (unnamed), a path, or begins with NUL (abstract); inet.py has the names
# of AF_INET and AF_INET6.


def _get_address(k: Kernel, t: Task, sock: Socket, addr: int, length: int) -> bytes:
    """Errno EFAULT, EINVAL; EAFNOSUPPORT (AF_UNIX: EINVAL too) for another family."""
    length &= _U32
    most = 128 if isinstance(sock, InetSocket) else _SUN_PATH + 2
    if not 2 <= length <= most:
        raise Errno("EINVAL")
    data = usermem.get(k, t, addr, length)
    if int.from_bytes(data[:2], "little") != sock.family:
        raise Errno("EINVAL" if sock.family == AF_UNIX else "EAFNOSUPPORT")
    name = data[2:]
    if sock.family == AF_UNIX and name[:1] != b"\0":
        name = name.split(b"\0")[0]
    usermem.note(k, t, "read", addr, data)
    return name


def _sockaddr(sock: Socket, name: bytes) -> bytes:
    end = b"\0" if sock.family == AF_UNIX and name and name[:1] != b"\0" else b""
    return sock.family.to_bytes(2, "little") + name + end


def _put_address(k: Kernel, t: Task, addr: int, length_at: int, sock: Socket, name: bytes) -> None:
    """move_addr_to_user: copy what fits, and store the full length."""
    room = usermem.get_u32(k, t, length_at)
    if room >> 31:
        raise Errno("EINVAL")
    data = _sockaddr(sock, name)
    usermem.put(k, t, addr, data[:room])
    usermem.put_u32(k, t, length_at, len(data))


def _named(k: Kernel, t: Task, name: bytes, kind: int) -> Socket:
    """The socket with this name. Errno ECONNREFUSED (none), EPROTOTYPE, those of a path walk."""
    if name[:1] == b"\0":
        found = ABSTRACT_NAMES.of(k).sockets.get(name)
    else:
        inode = find(k, t, AT_FDCWD, text(name)).existing()
        inode.permit(WRITE)
        found = inode.socket if isinstance(inode, SocketNode) else None
    if found is None or found.closed:
        raise Errno("ECONNREFUSED")
    if found.kind != kind:
        raise Errno("EPROTOTYPE")
    return found


# Creation.


def _check_kind(k: Kernel, a: Args) -> tuple[int, int, bool]:
    """(kind, status flags, close-on-exec) of socket's and socketpair's first three arguments."""
    domain, kind, protocol = (v & _U32 for v in a[:3])
    flags = kind & ~0xF
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    if domain not in (AF_UNIX, AF_INET, AF_INET6):
        name = _FAMILIES.get(domain, f"address family {domain}")
        k.limit("socket", "no others", name)
        raise Errno("EAFNOSUPPORT")
    kind &= 0xF
    if domain == AF_UNIX:
        kinds: dict[int, int] = {SOCK_STREAM: AF_UNIX, SOCK_DGRAM: AF_UNIX, SOCK_SEQPACKET: AF_UNIX}
        kind = SOCK_DGRAM if kind == SOCK_RAW else kind
    else:
        kinds = PROTOCOLS
        if kind == SOCK_RAW:
            raise Errno("EPERM")
    if kind not in kinds:
        raise Errno("ESOCKTNOSUPPORT")
    if protocol not in (0, kinds[kind]):
        raise Errno("EPROTONOSUPPORT")
    return kind, flags & O_NONBLOCK, bool(flags & O_CLOEXEC)


def sys_socket(k: Kernel, t: Task, a: Args) -> int:
    kind, status, cloexec = _check_kind(k, a)
    family = a[0] & _U32
    sock = (
        Socket(k, kind, status, t.pid)
        if family == AF_UNIX
        else InetSocket(k, family, kind, status, t.pid)
    )
    return t.files.add(t, sock, cloexec)


def sys_socketpair(k: Kernel, t: Task, a: Args) -> int:
    kind, status, cloexec = _check_kind(k, a)
    if a[0] & _U32 != AF_UNIX:
        raise Errno("EOPNOTSUPP")
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
    name = _get_address(k, t, sock, a[1], a[2])
    if sock.name:
        raise Errno("EINVAL")
    if isinstance(sock, InetSocket):
        sock.bind(k, unpack(sock.family, name))
        return 0
    if not name:
        name = _unused(k)
    if name[:1] == b"\0":
        if name in ABSTRACT_NAMES.of(k).sockets:
            raise Errno("EADDRINUSE")
        ABSTRACT_NAMES.of(k).sockets[name] = sock
    else:
        found = find(k, t, AT_FDCWD, text(name), follow=False)
        if found.inode is not None:
            raise Errno("EADDRINUSE")
        now = realtime_ns(k)
        bits = 0o140777 & ~t.fs.umask
        node = SocketNode(k.sandbox.new_ino(), bits, atime=now, mtime=now, ctime=now, socket=sock)
        found.parent.link(found.name, node, now)
        fsnotify.notify(k, node, IN_CREATE)
    sock.name = name
    return 0


def _unused(k: Kernel) -> bytes:
    """unix_autobind: five hexadecimal digits."""
    names = (b"\0%05x" % number for number in range(1 << 20))
    return next(name for name in names if name not in ABSTRACT_NAMES.of(k).sockets)


def sys_listen(k: Kernel, t: Task, a: Args) -> int:
    sock, backlog = socket_of(t, a[0]), a[1] & _U32
    if sock.kind == SOCK_DGRAM:
        raise Errno("EOPNOTSUPP")
    if isinstance(sock, InetSocket) and not sock.connected:
        sock.autobind(k, unspecified(sock.family))
    if not sock.name or sock.connected:
        raise Errno("EINVAL")
    sock.backlog = min(backlog, BACKLOG_MAX)
    sock.pid = t.pid
    sock.notify(k)
    return 0


def sys_connect(k: Kernel, t: Task, a: Args) -> Outcome:
    sock = socket_of(t, a[0])
    if (a[2] & _U32) >= 2 and usermem.get(k, t, a[1], 2) == b"\0\0":
        if sock.kind != SOCK_DGRAM:
            raise Errno("EINVAL")
        sock.peer = None  # AF_UNSPEC disconnects
        if isinstance(sock, InetSocket):
            sock.other = None
        return 0
    name = _get_address(k, t, sock, a[1], a[2])
    if isinstance(sock, InetSocket):
        return _connect_inet(k, t, sock, unpack(sock.family, name))
    other = _named(k, t, name, sock.kind)
    if sock.kind == SOCK_DGRAM:
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
    return 0 if other.arrive(k, sock) else sleep(k, t, sock, other.key, 0, SO_SNDTIMEO)


def _connect_inet(k: Kernel, t: Task, sock: InetSocket, place: Place) -> Outcome:
    """A nonblocking connect returns EINPROGRESS although the peer already exists, as on Linux,
    where the reply over loopback arrives while the caller holds the socket lock."""
    if sock.connecting:
        sock.connecting = False
        if sock.error is not None:
            raise Errno(sock.take_error() or "")
        return 0
    waits = not sock.flags & O_NONBLOCK or sock.kind == SOCK_DGRAM
    try:
        done = sock.connect(k, place)
    except Errno as error:
        if waits or error.name != "ECONNREFUSED":
            raise
        sock.error, done = error.name, True
    if not done and waits:
        listener = sock.find(k, place)
        return sleep(k, t, sock, listener.key if listener else None, 0, SO_SNDTIMEO)
    if waits:
        return 0
    sock.connecting = True
    sock.notify(k)
    raise Errno("EINPROGRESS")


def sys_accept4(k: Kernel, t: Task, a: Args) -> Outcome:
    sock, flags = socket_of(t, a[0]), a[3] & _U32
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    if sock.kind == SOCK_DGRAM:
        raise Errno("EOPNOTSUPP")
    if sock.backlog is None or (sock.shut & RECEIVE and not sock.arrivals):
        raise Errno("EINVAL")
    if not sock.arrivals:
        return sleep(k, t, sock, sock.key, 0, SO_RCVTIMEO)
    end = sock.arrivals.popleft()
    end.flags |= flags & O_NONBLOCK
    sock.notify(k)
    fd = t.files.add(t, end, bool(flags & O_CLOEXEC))
    if a[1]:
        assert end.peer is not None
        try:
            _put_address(k, t, a[1], a[2], end, _other_name(end))
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
    sock = socket_of(t, a[0])
    name = sock.name
    if isinstance(sock, InetSocket) and not name:
        name = pack(sock.family, (unspecified(sock.family), 0))
    _put_address(k, t, a[1], a[2], sock, name)
    return 0


def _other_name(sock: Socket) -> bytes:
    """Errno ENOTCONN."""
    if isinstance(sock, InetSocket):
        return sock.names_other()
    if sock.peer is None:
        raise Errno("ENOTCONN")
    return sock.peer.name


def sys_getpeername(k: Kernel, t: Task, a: Args) -> int:
    sock = socket_of(t, a[0])
    _put_address(k, t, a[1], a[2], sock, _other_name(sock))
    return 0


# Sending and receiving.


def _send(k: Kernel, t: Task, sock: Socket, head: Header, flags: int) -> Outcome:
    if head.name_at and head.name_size:
        if sock.kind == SOCK_STREAM:
            raise Errno("EISCONN" if sock.connected else "EOPNOTSUPP")
        name = _get_address(k, t, sock, head.name_at, head.name_size)
        if isinstance(sock, InetSocket):
            data = gather(k, t, head.iov)
            return sock.send_to(k, t, data, unpack(sock.family, name))
        to = sock.peer if sock.kind == SOCK_SEQPACKET else _named(k, t, name, sock.kind)
    else:
        to = sock.peer
    files = rights(k, t, head)
    outcome = send(k, t, sock, head, flags, to, files)
    if outcome is not None:
        return outcome
    # A datagram's sender sleeps until a read of the receiver makes room and wakes it.
    return sleep(k, t, sock, sock.key, flags, SO_SNDTIMEO)


def sys_sendto(k: Kernel, t: Task, a: Args) -> Outcome:
    head = Header(a[4], a[5] & _U32, cut([(a[1], a[2] & (1 << 63) - 1)]))
    return _send(k, t, socket_of(t, a[0]), head, a[3] & _U32)


def sys_sendmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    return _send(k, t, socket_of(t, a[0]), get_header(k, t, a[1]), a[2] & _U32)


def _each(
    t: Task,
    count: int,
    stop_early: bool,
    one: Callable[[int], Outcome],
    enough: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Send or receive messages up to the first that fails or blocks; return their number.
    one: the call for the nth message. enough: whether to stop, asked after each message."""
    assert t.blocked is not None
    so_far = progress(t)
    done = so_far.messages
    while done < min(count, _MESSAGES_MAX):
        try:
            outcome = one(done)
        except Errno:
            if done:
                return done
            raise
        if not isinstance(outcome, int):
            if done and (stop_early or outcome is RESTART):
                return done
            so_far.messages = done
            return outcome
        done += 1
        so_far.done, t.blocked.expires = 0, None
        if enough():
            break
    return done


def sys_sendmmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    sock = socket_of(t, a[0])

    def one(n: int) -> Outcome:
        at = a[1] + n * _MMSGHDR
        sent = _send(k, t, sock, get_header(k, t, at), a[3] & _U32)
        if isinstance(sent, int):
            usermem.put_u32(k, t, at + 56, sent)
        return sent

    return _each(t, a[2] & _U32, False, one)


def sys_recvfrom(k: Kernel, t: Task, a: Args) -> Outcome:
    sock, flags = socket_of(t, a[0]), a[3] & _U32
    got = receive(k, t, sock, cut([(a[1], a[2] & (1 << 63) - 1)]), flags)
    if got is None:
        return sleep(k, t, sock, sock.key, flags, SO_RCVTIMEO)
    for file in got.files:
        file.put(k)
    if a[4]:
        _put_address(k, t, a[4], a[5], sock, got.sender)
    return got.result


def _recvmsg(k: Kernel, t: Task, sock: Socket, addr: int, flags: int) -> Outcome:
    head = get_header(k, t, addr)
    got = receive(k, t, sock, head.iov, flags)
    if got is None:
        return sleep(k, t, sock, sock.key, flags, SO_RCVTIMEO)
    control, cut_off = got.control(k, t, sock, head.control_size, flags)
    usermem.put(k, t, head.control_at, control)
    if head.name_at:
        name = _sockaddr(sock, got.sender) if got.sender or sock.kind != SOCK_STREAM else b""
        usermem.put(k, t, head.name_at, name[: head.name_size])
        usermem.put_u32(k, t, addr + 8, len(name))
    usermem.put_u32(k, t, addr + 48, got.flags | cut_off)
    usermem.put_u64(k, t, addr + 40, len(control))
    return got.result


def sys_recvmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    return _recvmsg(k, t, socket_of(t, a[0]), a[1], a[2] & _U32)


def sys_recvmmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    """do_recvmmsg() looks at its timeout only after a message: it ends no wait for one."""
    so_far = progress(t)
    if a[4] and so_far.until is None:
        so_far.until = k.now_ns() + get_timespec(k, t, a[4])
    until = so_far.until
    sock, flags = socket_of(t, a[0]), a[3] & _U32

    def one(n: int) -> Outcome:
        at = a[1] + n * _MMSGHDR
        own = flags | (MSG_DONTWAIT if n and flags & MSG_WAITFORONE else 0)
        got = _recvmsg(k, t, sock, at, own & ~MSG_WAITFORONE)
        if isinstance(got, int):
            usermem.put_u32(k, t, at + 56, got)
        return got

    if until is None:
        return _each(t, a[2] & _U32, bool(flags & MSG_WAITFORONE), one)
    got = _each(t, a[2] & _U32, bool(flags & MSG_WAITFORONE), one, lambda: k.now_ns() >= until)
    if isinstance(got, int) and got > 0:
        usermem.put(k, t, a[4], pack_timespec(max(0, until - k.now_ns())))
    return got


CALLS: Final = (
    Call("socket", sys_socket, "modelled", "AF_UNIX; TCP and UDP over loopback; no others"),
    Call("socketpair", sys_socketpair),
    Call("bind", sys_bind, why="addresses of loopback only"),
    Call("listen", sys_listen),
    Call("accept", sys_accept),
    Call("connect", sys_connect, why="addresses of loopback only"),
    Call("getsockname", sys_getsockname),
    Call("getpeername", sys_getpeername),
    Call("sendto", sys_sendto, why="no MSG_OOB, MSG_ZEROCOPY, MSG_FASTOPEN"),
    Call("recvfrom", sys_recvfrom, why="no MSG_OOB, MSG_ERRQUEUE"),
    Call("shutdown", sys_shutdown),
    Call(
        "sendmsg",
        sys_sendmsg,
        why="no MSG_OOB, MSG_ZEROCOPY, MSG_FASTOPEN; SCM_RIGHTS and SCM_CREDENTIALS only",
    ),
    Call(
        "recvmsg", sys_recvmsg, why="no MSG_OOB, MSG_ERRQUEUE; SCM_RIGHTS and SCM_CREDENTIALS only"
    ),
    Call("accept4", sys_accept4),
    Call("recvmmsg", sys_recvmmsg, why="as recvmsg"),
    Call("sendmmsg", sys_sendmmsg, why="as sendmsg"),
)
