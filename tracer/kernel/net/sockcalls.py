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
    AF_UNSPEC,
    AF_VSOCK,
    IN_CREATE,
    MSG_DONTWAIT,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
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
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.inode import EXECUTE, WRITE
from shstk.tracer.kernel.fs.transfer import Iov, cut, interrupted, progress, total
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.net.inet import PROTOCOLS, InetSocket, pack, unspecified
from shstk.tracer.kernel.net.names import (
    family_of,
    get_sockaddr,
    inet_place,
    named,
    put_address,
    sockaddr,
    unix_name,
)
from shstk.tracer.kernel.net.sockets import (
    ABSTRACT_NAMES,
    BACKLOG_MAX,
    RECEIVE,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    Socket,
    SocketNode,
    socket_of,
)
from shstk.tracer.kernel.net.sockmsg import Header, gather_all, get_header, receive, rights, send
from shstk.tracer.kernel.time.clock import get_timespec, pack_timespec, realtime_ns
from shstk.tracer.kernel.tree.hosttree import text
from shstk.tracer.kernel.tree.sandbox import AT_FDCWD, find

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_FAMILIES: Final = {AF_NETLINK: "AF_NETLINK", AF_PACKET: "AF_PACKET", AF_VSOCK: "AF_VSOCK"}
_FAMILIES_MAX: Final = 46  # NPROTO
_KIND, _KINDS_MAX = 0xF, 11  # SOCK_TYPE_MASK, SOCK_MAX
_PROTOCOLS_MAX: Final = 263  # IPPROTO_MAX
_ICMP, _ICMPV6 = 1, 58
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
    expires = sock.deadline(k, t, writes=timeout == SO_SNDTIMEO)
    if t.blocked.woken == "signal":
        return interrupted(expires)
    if expires is not None and k.now_ns() >= expires:
        raise Errno("EAGAIN")
    return Wait("socket", key, expires)


# Creation.


def _create(k: Kernel, t: Task, domain: int, kind: int, protocol: int, status: int) -> Socket:
    """__sock_create(): the family, the kind, and then what the family says of the protocol."""
    domain, kind, protocol = domain & _U32, kind & _KIND, protocol & _U32
    if domain >= _FAMILIES_MAX:
        raise Errno("EAFNOSUPPORT")
    if kind >= _KINDS_MAX:
        raise Errno("EINVAL")
    if domain == AF_UNIX:
        return _create_unix(k, t, kind, protocol, status)
    if domain in (AF_INET, AF_INET6):
        _check_protocol(kind, protocol)
        return InetSocket(k, domain, kind, status, t.pid)
    name = _FAMILIES.get(domain, f"address family {domain}")
    k.limit("socket", "no others", name)
    raise Errno("EAFNOSUPPORT")


def _create_unix(k: Kernel, t: Task, kind: int, protocol: int, status: int) -> Socket:
    if protocol not in (0, AF_UNIX):
        raise Errno("EPROTONOSUPPORT")
    kind = SOCK_DGRAM if kind == SOCK_RAW else kind
    if kind not in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET):
        raise Errno("ESOCKTNOSUPPORT")
    return Socket(k, kind, status, t.pid)


def _check_protocol(kind: int, protocol: int) -> None:
    """inet_create(). Raw sockets need a capability, and those for ICMP a range of groups."""
    if protocol >= _PROTOCOLS_MAX:
        raise Errno("EINVAL")
    if kind == SOCK_RAW:
        raise Errno("EPERM" if protocol else "EPROTONOSUPPORT")
    if kind not in PROTOCOLS:
        raise Errno("ESOCKTNOSUPPORT")
    if kind == SOCK_DGRAM and protocol in (_ICMP, _ICMPV6):
        raise Errno("EACCES")
    if protocol not in (0, PROTOCOLS[kind]):
        raise Errno("EPROTONOSUPPORT")


def _flags(kind: int) -> tuple[int, bool]:
    """(status flags, close-on-exec) of socket's and socketpair's second argument."""
    flags = kind & _U32 & ~_KIND
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    return flags & O_NONBLOCK, bool(flags & O_CLOEXEC)


def sys_socket(k: Kernel, t: Task, a: Args) -> int:
    status, cloexec = _flags(a[1])
    return t.files.add(t, _create(k, t, a[0], a[1], a[2], status), cloexec)


def sys_socketpair(k: Kernel, t: Task, a: Args) -> int:
    """The descriptors are taken, and stored, before the sockets are made."""
    status, cloexec = _flags(a[1])
    first = t.files.unused(t, count=2)
    second = t.files.unused(t, first + 1)
    usermem.put(k, t, a[3], struct.pack("<2i", first, second))
    one, other = (_create(k, t, a[0], a[1], a[2], status) for _ in range(2))
    if isinstance(one, InetSocket):
        raise Errno("EOPNOTSUPP")
    one.join(other)
    for end in (one, other):
        t.files.add(t, end, cloexec)
    return 0


def sys_bind(k: Kernel, t: Task, a: Args) -> int:
    sock = socket_of(t, a[0])
    data = get_sockaddr(k, t, a[1], a[2])
    if isinstance(sock, InetSocket):
        sock.bind(k, inet_place(sock, data, binds=True))
        return 0
    if len(data) == 2 and family_of(data) == AF_UNIX:
        if not sock.name:
            _bind_abstract(k, sock, _unused(k, sock.kind))
        return 0
    name = unix_name(data)
    if name[:1] == b"\0":
        _bind_abstract(k, sock, name)
    else:
        _bind_path(k, t, sock, name)
    return 0


def _bind_abstract(k: Kernel, sock: Socket, name: bytes) -> None:
    if sock.name:
        raise Errno("EINVAL")
    if (sock.kind, name) in ABSTRACT_NAMES.of(k).sockets:
        raise Errno("EADDRINUSE")
    ABSTRACT_NAMES.of(k).sockets[sock.kind, name] = sock
    sock.name = name


def _bind_path(k: Kernel, t: Task, sock: Socket, name: bytes) -> None:
    """unix_bind_bsd(): the path is created before the socket is looked at."""
    found = find(k, t, AT_FDCWD, text(name), follow=False)
    if found.inode is not None:
        raise Errno("EADDRINUSE")
    found.parent.permit(WRITE | EXECUTE)
    if sock.name:
        raise Errno("EINVAL")
    now = realtime_ns(k)
    bits = 0o140777 & ~t.fs.umask
    node = SocketNode(k.sandbox.new_ino(), bits, atime=now, mtime=now, ctime=now, socket=sock)
    found.parent.link(found.name, node, now)
    fsnotify.notify(k, node, IN_CREATE)
    sock.name = name


def _unused(k: Kernel, kind: int) -> bytes:
    """unix_autobind: five hexadecimal digits."""
    names = (b"\0%05x" % number for number in range(1 << 20))
    return next(name for name in names if (kind, name) not in ABSTRACT_NAMES.of(k).sockets)


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
    data = get_sockaddr(k, t, a[1], a[2])
    if isinstance(sock, InetSocket):
        return _connect_inet(k, t, sock, data)
    if sock.kind == SOCK_DGRAM and family_of(data) == AF_UNSPEC:
        sock.peer = None
        return 0
    other = named(k, t, unix_name(data), sock.kind)
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


def _connect_inet(k: Kernel, t: Task, sock: InetSocket, data: bytes) -> Outcome:
    """The state of a stream is looked at before the address. A nonblocking connect returns
    EINPROGRESS although the peer already exists, as on Linux, where the reply over loopback arrives
    while the caller holds the socket lock."""
    if family_of(data) == AF_UNSPEC:
        sock.disconnect(k)
        return 0
    if sock.connecting:
        sock.connecting = False
        if sock.error is not None:
            raise Errno(sock.take_error() or "")
        return 0
    if sock.kind == SOCK_STREAM and (sock.connected or sock.backlog is not None):
        raise Errno("EISCONN")
    place = inet_place(sock, data)
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
    t.files.get(a[0])
    flags = a[3] & _U32
    if flags & ~(O_NONBLOCK | O_CLOEXEC):
        raise Errno("EINVAL")
    t.files.unused(t)
    sock = socket_of(t, a[0])
    if sock.kind == SOCK_DGRAM:
        raise Errno("EOPNOTSUPP")
    if sock.backlog is None or (sock.shut & RECEIVE and not sock.arrivals):
        raise Errno("EINVAL")
    if not sock.arrivals:
        return sleep(k, t, sock, sock.key, 0, SO_RCVTIMEO)
    end = sock.arrivals.popleft()
    end.flags |= flags & O_NONBLOCK
    sock.notify(k, 0)
    fd = t.files.add(t, end, bool(flags & O_CLOEXEC))
    if a[1]:
        assert end.peer is not None
        try:
            put_address(k, t, a[1], a[2], end, _other_name(end))
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
    put_address(k, t, a[1], a[2], sock, name)
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
    put_address(k, t, a[1], a[2], sock, _other_name(sock))
    return 0


# Sending and receiving.


def _send(k: Kernel, t: Task, sock: Socket, head: Header, flags: int) -> Outcome:
    if isinstance(sock, InetSocket):
        outcome = _send_inet(k, t, sock, head, flags)
    else:
        outcome = _send_unix(k, t, sock, head, flags)
    if outcome is not None:
        return outcome
    # A datagram's sender sleeps until a read of the receiver makes room and wakes it.
    return sleep(k, t, sock, sock.key, flags, SO_SNDTIMEO)


def _send_unix(k: Kernel, t: Task, sock: Socket, head: Header, flags: int) -> int | None:
    """unix_stream_sendmsg(), unix_dgram_sendmsg()."""
    files = rights(k, t, head)
    if sock.kind == SOCK_SEQPACKET and sock.peer is None:
        raise Errno("ENOTCONN")
    if flags & MSG_OOB and (sock.kind != SOCK_STREAM or not total(head.iov)):
        raise Errno("EOPNOTSUPP")
    to = sock.peer
    if head.name and sock.kind == SOCK_STREAM:
        raise Errno("EISCONN" if sock.connected else "EOPNOTSUPP")
    if head.name and sock.kind == SOCK_DGRAM:
        # The message is copied before the receiver is looked for.
        name = unix_name(head.name)
        sock.check_size(total(head.iov))
        data = gather_all(k, t, head.iov)
        return send(k, t, sock, data, flags, named(k, t, name, sock.kind), files)
    sock.check_send(k, t, to, quiet=bool(flags & MSG_NOSIGNAL))
    sock.check_size(total(head.iov))
    return _send_stream(k, t, sock, gather_all(k, t, head.iov), flags, files)


def _send_inet(k: Kernel, t: Task, sock: InetSocket, head: Header, flags: int) -> int | None:
    """tcp_sendmsg(), which takes no notice of a name; udp_sendmsg()."""
    if sock.kind == SOCK_STREAM:
        sock.check_send(k, t, sock.peer, quiet=bool(flags & MSG_NOSIGNAL))
        sock.more = bool(flags & MSG_MORE) and not flags & MSG_OOB
        return _send_stream(k, t, sock, gather_all(k, t, head.iov), flags, [])
    sock.check_size(total(head.iov))
    if flags & MSG_OOB:
        raise Errno("EOPNOTSUPP")
    place = None if sock.corked is not None else sock.destination(head.name)
    data = gather_all(k, t, head.iov)
    return sock.send_datagram(k, t, data, place, more=bool(flags & MSG_MORE))


def _send_stream(
    k: Kernel, t: Task, sock: Socket, data: bytes, flags: int, files: list[OpenFile]
) -> int | None:
    """To the peer. With MSG_OOB the last byte is urgent, and what precedes it is not."""
    if not flags & MSG_OOB or not data:
        return send(k, t, sock, data, flags, sock.peer, files)
    plain = data[:-1]
    sent = send(k, t, sock, plain, flags, sock.peer, files) if plain else 0
    if sent is None or sent < len(plain):
        return sent
    assert sock.peer is not None
    sock.send_urgent(k, t, data[-1:], sock.peer)
    return len(data)


def _one_part(addr: int, length: int) -> Iov:
    """import_ubuf(): checked before the descriptor. Errno EFAULT."""
    iov = cut([(addr, length)])
    if not usermem.access_ok(addr, iov[0][1]):
        raise Errno("EFAULT")
    return iov


def sys_sendto(k: Kernel, t: Task, a: Args) -> Outcome:
    iov = _one_part(a[1], a[2])
    sock = socket_of(t, a[0])
    name = get_sockaddr(k, t, a[4], a[5]) if a[4] else b""
    return _send(k, t, sock, Header(name, 0, 0, iov), a[3] & _U32)


def sys_sendmsg(k: Kernel, t: Task, a: Args) -> Outcome:
    sock = socket_of(t, a[0])
    return _send(k, t, sock, get_header(k, t, a[1], sends=True), a[2] & _U32)


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
        sent = _send(k, t, sock, get_header(k, t, at, sends=True), a[3] & _U32)
        if isinstance(sent, int):
            usermem.put_u32(k, t, at + 56, sent)
        return sent

    return _each(t, a[2] & _U32, False, one)


def sys_recvfrom(k: Kernel, t: Task, a: Args) -> Outcome:
    iov = _one_part(a[1], a[2])
    sock, flags = socket_of(t, a[0]), a[3] & _U32
    got = receive(k, t, sock, iov, flags)
    if got is None:
        return sleep(k, t, sock, sock.key, flags, SO_RCVTIMEO)
    for file in got.files:
        file.put(k)
    if a[4]:
        put_address(k, t, a[4], a[5], sock, got.sender)
    return got.result


def _recvmsg(k: Kernel, t: Task, sock: Socket, addr: int, flags: int) -> Outcome:
    head = get_header(k, t, addr, sends=False)
    got = receive(k, t, sock, head.iov, flags)
    if got is None:
        return sleep(k, t, sock, sock.key, flags, SO_RCVTIMEO)
    control, cut_off = got.control(k, t, sock, head.control_size, flags)
    usermem.put(k, t, head.control_at, control)
    if head.name_at:
        name = sockaddr(sock, got.sender) if got.sender or sock.kind != SOCK_STREAM else b""
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
    Call("sendto", sys_sendto, why="no MSG_ZEROCOPY, MSG_FASTOPEN"),
    Call("recvfrom", sys_recvfrom, why="no MSG_ERRQUEUE"),
    Call("shutdown", sys_shutdown),
    Call(
        "sendmsg",
        sys_sendmsg,
        why="no MSG_ZEROCOPY, MSG_FASTOPEN; SCM_RIGHTS and SCM_CREDENTIALS only",
    ),
    Call("recvmsg", sys_recvmsg, why="no MSG_ERRQUEUE; SCM_RIGHTS and SCM_CREDENTIALS only"),
    Call("accept4", sys_accept4),
    Call("recvmmsg", sys_recvmmsg, why="as recvmsg"),
    Call("sendmmsg", sys_sendmmsg, why="as sendmsg"),
)
