"""getsockopt(2) and setsockopt(2)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_UDP, SOL_SOCKET
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.net.inet import InetSocket
from shstk.tracer.kernel.net.sockets import CAPACITY, Socket, socket_of
from shstk.tracer.kernel.task import UID

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_U32: Final = 0xFFFF_FFFF
SO_RCVTIMEO, SO_SNDTIMEO = 20, 21
_SO_PASSCRED: Final = 16
_PLAIN: Final = frozenset((1, 2, 5, 6, 9, 10, 12, 15))  # no effect here
_SO_SIZES: Final = frozenset((7, 8, 32, 33))  # SO_SNDBUF, SO_RCVBUF and ..FORCE: ignored


def _credentials(pid: int | None) -> bytes:
    """struct ucred; without a peer pid 0 and ids -1."""
    return struct.pack("<iii", 0, -1, -1) if pid is None else struct.pack("<iII", pid, UID, UID)


def _timeval(ns: int) -> bytes:
    return struct.pack("<qq", ns // 10**9, ns % 10**9 // 1000)


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
    SO_RCVTIMEO: lambda s: _timeval(s.timeouts.get(SO_RCVTIMEO, 0)),
    SO_SNDTIMEO: lambda s: _timeval(s.timeouts.get(SO_SNDTIMEO, 0)),
    30: lambda s: _int(s.backlog is not None),  # SO_ACCEPTCONN
    38: lambda s: _int(s.protocol),  # SO_PROTOCOL
    39: lambda s: _int(s.family),  # SO_DOMAIN
}
_SO_ERROR: Final = 4


_IPV6_V6ONLY: Final = (IPPROTO_IPV6, 26)
_INET_LEVELS: Final = frozenset((IPPROTO_IP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_IPV6))


def _inet_options(sock: Socket, level: int) -> dict[tuple[int, int], int]:
    """Options that are stored without effect: there is no wire. Errno EOPNOTSUPP, ENOPROTOOPT."""
    if not isinstance(sock, InetSocket):
        raise Errno("EOPNOTSUPP")
    if level not in _INET_LEVELS:
        raise Errno("ENOPROTOOPT")
    return sock.options


def sys_getsockopt(k: Kernel, t: Task, a: Args) -> int:
    sock, level, option = socket_of(t, a[0]), a[1] & _U32, a[2] & _U32
    room = usermem.get_u32(k, t, a[4])
    if room >> 31:
        raise Errno("EINVAL")
    if level != SOL_SOCKET:
        value = _int(_inet_options(sock, level).get((level, option), 0))
    elif option == _SO_ERROR:
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
    if level != SOL_SOCKET:
        options = _inet_options(sock, level)
        set_to = usermem.get(k, t, a[3], min(length, 4)).ljust(4, b"\0")
        options[level, option] = int.from_bytes(set_to, "little", signed=True)
        if isinstance(sock, InetSocket) and (level, option) == _IPV6_V6ONLY:
            sock.v6only = bool(options[level, option])
        return 0
    if length < 4 or length >> 31:
        raise Errno("EINVAL")
    value = usermem.get_u32(k, t, a[3])
    if option in (SO_RCVTIMEO, SO_SNDTIMEO):
        if length < 16:
            raise Errno("EINVAL")
        seconds, micros = struct.unpack("<qq", usermem.get(k, t, a[3], 16))
        if not 0 <= micros < 10**6:
            raise Errno("EDOM")
        sock.timeouts.pop(option, None)
        if (seconds or micros) and seconds >= 0:
            sock.timeouts[option] = seconds * 10**9 + micros * 1000
    elif option == _SO_PASSCRED:
        sock.passcred = bool(value)
    elif option not in _PLAIN | _SO_SIZES | {13, 18}:
        raise Errno("ENOPROTOOPT")
    return 0


CALLS: Final = (
    Call("setsockopt", sys_setsockopt, "simple", "sizes and TCP options have no effect"),
    Call("getsockopt", sys_getsockopt, why="SOL_SOCKET, and the options that setsockopt has kept"),
)
