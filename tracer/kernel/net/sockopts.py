"""getsockopt(2) and setsockopt(2). Most options are kept and have no effect: there is no wire."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    AF_INET6,
    AF_UNIX,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
)
from shstk.tracer.kernel.call import Args, Call, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.net.inet import TCP_CORK, TCP_NODELAY, UDP_CORK, InetSocket
from shstk.tracer.kernel.net.sockets import (
    CAPACITY,
    RECEIVE,
    SEND,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    Socket,
    socket_of,
)
from shstk.tracer.kernel.task import UID

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_U32: Final = 0xFFFF_FFFF
_INT_MAX: Final = 2**31 - 1
_SO_ERROR, _SO_LINGER, _SO_REUSEPORT, _SO_PASSCRED, _SO_RCVLOWAT = 4, 13, 15, 16, 18
# SO_SNDBUF and SO_RCVBUF: the smallest size, and that of a new TCP socket.
_SIZES: Final = {7: (4608, 16384), 8: (2304, 131072)}
_TCP_INFO, _TCP_CONGESTION = 11, 13
_V6ONLY: Final = (IPPROTO_IPV6, 26)


_SET_ONLY: Final = (32, 33)  # SO_SNDBUFFORCE, SO_RCVBUFFORCE


class Option(NamedTuple):
    """An int. default: its value until it is set, and after it was set to `resets`. low and high:
    the values that it takes; others are `refused`. boolean: it reads as 0 or 1."""

    default: int = 0
    low: int = -(2**31)
    high: int = _INT_MAX
    refused: str = "EINVAL"
    boolean: bool = False
    resets: int | None = None


_FLAG: Final = Option(boolean=True)
_ANY: Final = Option()
_ROOT: Final = Option(low=1, high=0, refused="EPERM")  # no value will do without a capability


def _named(numbers: str, option: Option = _ANY) -> dict[int, Option]:
    return dict.fromkeys(map(int, numbers.split()), option)


# level -> option -> what it takes
_OPTIONS: Final[dict[int, dict[int, Option]]] = {
    SOL_SOCKET: {
        **_named("2 5 6 9 10 11 15", _FLAG),  # REUSEADDR, DONTROUTE, BROADCAST, KEEPALIVE, …
        1: Option(low=0, high=0, refused="EACCES", boolean=True),  # DEBUG
        12: Option(low=0, high=6, refused="EPERM"),  # PRIORITY
        14: Option(low=0, high=0),  # BSDCOMPAT, which is ignored
        _SO_RCVLOWAT: Option(1),
        **_named("32 33 36", _ROOT),  # SNDBUFFORCE, RCVBUFFORCE, MARK
    },
    IPPROTO_IP: {
        1: _ANY,  # TOS
        2: Option(64, 1, 255, resets=-1),  # TTL
        **_named("4 5 6 7 8 11 12 13 15 18 20 23 24 25 26 50", _FLAG),
        10: Option(1, 0, 5),  # MTU_DISCOVER
        19: _ROOT,  # TRANSPARENT
        21: Option(0, 0, 255),  # MINTTL
        33: Option(1, 0, 255, resets=-1),  # MULTICAST_TTL
        34: Option(1, boolean=True),  # MULTICAST_LOOP
        49: Option(1, 0, 1),  # MULTICAST_ALL
        **_named("32 35 36 37 38 39 40 41 42 43 44 45 46 47 48 51"),  # multicast groups
    },
    IPPROTO_TCP: {
        **_named("1 3 16 17 30", _FLAG),  # NODELAY, CORK, THIN_*, FASTOPEN_CONNECT
        2: Option(536, 88, 32767, resets=0),  # MAXSEG
        4: Option(7200, 1, 32767),  # KEEPIDLE
        5: Option(75, 1, 32767),  # KEEPINTVL
        6: Option(9, 1, 127),  # KEEPCNT
        7: Option(6, 1, 127),  # SYNCNT
        8: Option(60),  # LINGER2
        12: Option(1),  # QUICKACK
        18: Option(0, 0),  # USER_TIMEOUT
        19: _ROOT,  # REPAIR
        23: Option(0, 0),  # FASTOPEN
        25: Option(-1),  # NOTSENT_LOWAT
        **_named("9 10 24 27 36"),  # DEFER_ACCEPT, WINDOW_CLAMP, TIMESTAMP, SAVE_SYN, INQ
    },
    IPPROTO_UDP: {
        **_named("1 101 102", _FLAG),  # CORK, NO_CHECK6_*
        103: Option(0, 0, 65535),  # SEGMENT
        104: _FLAG,  # GRO
    },
    IPPROTO_IPV6: {
        16: Option(64, 0, 255, resets=-1),  # UNICAST_HOPS
        18: Option(1, 0, 255, resets=-1),  # MULTICAST_HOPS
        19: Option(1, boolean=True),  # MULTICAST_LOOP
        **_named("25 26 49 51 53 56 66 70 74", _FLAG),
        67: Option(0, 0, 255, resets=-1),  # TCLASS
        **_named("17 20 21 22 23 24 27 28 29 42 43 44 45 46 47 48 50 72 73 76 78"),
    },
}


def _credentials(pid: int | None) -> bytes:
    """struct ucred; without a peer pid 0 and ids -1."""
    return struct.pack("<iii", 0, -1, -1) if pid is None else struct.pack("<iII", pid, UID, UID)


def _timeval(ns: int) -> bytes:
    return struct.pack("<qq", ns // 10**9, ns % 10**9 // 1000)


def _int(value: int) -> bytes:
    return struct.pack("<i", value)


def _size(sock: Socket, option: int) -> bytes:
    plain = _SIZES[option][1] if sock.kind == SOCK_STREAM and sock.family != AF_UNIX else CAPACITY
    return _int(sock.options.get((SOL_SOCKET, option), plain))


# What getsockopt(SOL_SOCKET) computes.
_COMPUTED: Final[dict[int, Callable[[Socket], bytes]]] = {
    3: lambda s: _int(s.kind),  # SO_TYPE
    7: lambda s: _size(s, 7),
    8: lambda s: _size(s, 8),
    _SO_LINGER: lambda s: s.linger,
    _SO_PASSCRED: lambda s: _int(s.passcred),
    17: lambda s: _credentials(s.peer_pid),  # SO_PEERCRED
    19: lambda s: _int(1),  # SO_SNDLOWAT
    SO_RCVTIMEO: lambda s: _timeval(s.timeouts.get(SO_RCVTIMEO, 0)),
    SO_SNDTIMEO: lambda s: _timeval(s.timeouts.get(SO_SNDTIMEO, 0)),
    30: lambda s: _int(s.backlog is not None),  # SO_ACCEPTCONN
    38: lambda s: _int(s.protocol),  # SO_PROTOCOL
    39: lambda s: _int(s.family),  # SO_DOMAIN
}


def _levels(sock: Socket) -> tuple[int, ...]:
    """The levels of a socket besides SOL_SOCKET."""
    if not isinstance(sock, InetSocket):
        return ()
    own = IPPROTO_TCP if sock.kind == SOCK_STREAM else IPPROTO_UDP
    return (own, IPPROTO_IP, *((IPPROTO_IPV6,) if sock.family == AF_INET6 else ()))


# Getting.


def _tcp_info(sock: Socket) -> bytes:
    """struct tcp_info: the state, and zeros."""
    established, fin_wait2, close, close_wait, listen = 1, 5, 7, 8, 10
    state = established if sock.connected else close
    if sock.connected and sock.shut & RECEIVE:
        state = close_wait
    elif sock.connected and sock.shut & SEND:
        state = fin_wait2
    return bytes([listen if sock.backlog is not None else state]).ljust(232, b"\0")


def _value(sock: Socket, level: int, option: int) -> bytes:
    if level == SOL_SOCKET and option == _SO_ERROR:
        error = sock.take_error()
        return _int(Errno(error).number if error else 0)
    if level == SOL_SOCKET and option in _COMPUTED:
        return _COMPUTED[option](sock)
    if (level, option) == (IPPROTO_TCP, _TCP_INFO):
        return _tcp_info(sock)
    if (level, option) == (IPPROTO_TCP, _TCP_CONGESTION):
        return b"cubic".ljust(16, b"\0")
    known = _OPTIONS[level].get(option)
    if known is None or (level == SOL_SOCKET and option in _SET_ONLY):
        raise Errno("ENOPROTOOPT")
    return _int(sock.options.get((level, option), known.default))


def sys_getsockopt(k: Kernel, t: Task, a: Args) -> int:
    """The level is checked before the length is read, and the option after that. An IPv4 socket
    says EOPNOTSUPP for a level that it lacks (do_ip_getsockopt), an IPv6 socket ENOPROTOOPT."""
    sock, level, option = socket_of(t, a[0]), a[1] & _U32, a[2] & _U32
    if level != SOL_SOCKET and level not in _levels(sock):
        raise Errno("ENOPROTOOPT" if sock.family == AF_INET6 else "EOPNOTSUPP")
    room = usermem.get_u32(k, t, a[4])
    if room >> 31:
        raise Errno("EINVAL")
    value = _value(sock, level, option)
    usermem.put(k, t, a[3], value[:room])
    usermem.put_u32(k, t, a[4], min(room, len(value)))
    return 0


# Setting.


def _set_timeout(k: Kernel, t: Task, sock: Socket, option: int, addr: int, length: int) -> None:
    """sock_set_timeout(): 0 is for ever, and what is negative is over at once."""
    if length < 16:
        raise Errno("EINVAL")
    seconds, micros = struct.unpack("<qq", usermem.get(k, t, addr, 16))
    if not 0 <= micros < 10**6:
        raise Errno("EDOM")
    sock.timeouts.pop(option, None)
    if seconds or micros:
        sock.timeouts[option] = max(seconds, 0) * 10**9 + (micros * 1000 if seconds >= 0 else 0)


def _set_socket_option(
    k: Kernel, t: Task, sock: Socket, option: int, addr: int, length: int
) -> None:
    """sk_setsockopt(): the length and the value are checked before the option."""
    if length < 4:
        raise Errno("EINVAL")
    value = i32(usermem.get_u32(k, t, addr))
    if option in (SO_RCVTIMEO, SO_SNDTIMEO):
        _set_timeout(k, t, sock, option, addr, length)
    elif option == _SO_LINGER:
        if length < 8:
            raise Errno("EINVAL")
        sock.linger = usermem.get(k, t, addr, 8)
    elif option in _SIZES:
        size = min(value & _U32, CAPACITY) * 2
        sock.options[SOL_SOCKET, option] = max(size, _SIZES[option][0])
    elif option == _SO_PASSCRED:
        if sock.family != AF_UNIX:
            raise Errno("EOPNOTSUPP")
        sock.passcred = bool(value)
    elif option == _SO_REUSEPORT and value and sock.family == AF_UNIX:
        raise Errno("EOPNOTSUPP")
    else:
        if option == _SO_RCVLOWAT:
            value = _INT_MAX if value < 0 else value or 1
        _store(sock, SOL_SOCKET, option, value)


def _store(sock: Socket, level: int, option: int, value: int) -> None:
    known = _OPTIONS[level].get(option)
    if known is None:
        raise Errno("ENOPROTOOPT")
    if value == known.resets:
        value = known.default
    elif not known.low <= value <= known.high:
        raise Errno(known.refused)
    sock.options[level, option] = int(bool(value)) if known.boolean else value


def sys_setsockopt(k: Kernel, t: Task, a: Args) -> int:
    sock, level, option, length = socket_of(t, a[0]), a[1] & _U32, a[2] & _U32, a[4] & _U32
    if length >> 31:
        raise Errno("EINVAL")
    if level == SOL_SOCKET:
        _set_socket_option(k, t, sock, option, a[3], length)
        return 0
    if not isinstance(sock, InetSocket):
        raise Errno("EOPNOTSUPP")
    if level not in _levels(sock):
        raise Errno("ENOPROTOOPT")
    if (level, option) == (IPPROTO_TCP, _TCP_CONGESTION):
        return _set_congestion(k, t, a[3], length)
    if option not in _OPTIONS[level]:
        raise Errno("ENOPROTOOPT")
    value = 0
    if length >= 4:
        value = i32(usermem.get_u32(k, t, a[3]))
    elif level != IPPROTO_IP:
        raise Errno("EINVAL")
    elif length:
        value = usermem.get(k, t, a[3], 1)[0]  # a byte will do
    if (level, option) == _V6ONLY:
        if sock.place is not None:
            raise Errno("EINVAL")
        sock.v6only = bool(value)
    _store(sock, level, option, value)
    if (level, option) == UDP_CORK and not value and sock.kind == SOCK_DGRAM:
        sock.uncork(k, t)
    if ((level, option) == TCP_CORK and not value) or ((level, option) == TCP_NODELAY and value):
        sock.push(k, t, len(sock.held))
    return 0


def _set_congestion(k: Kernel, t: Task, addr: int, length: int) -> int:
    """Errno ENOENT: the kernel has no such algorithm."""
    if length < 1:
        raise Errno("EINVAL")
    name = usermem.get(k, t, addr, min(length, 15)).split(b"\0")[0]
    if name not in (b"cubic", b"reno"):
        raise Errno("ENOENT")
    return 0


CALLS: Final = (
    Call("setsockopt", sys_setsockopt, "simple", "sizes and most options are kept, without effect"),
    Call("getsockopt", sys_getsockopt, why="options that setsockopt keeps, and some more"),
)
