"""The ioctl requests of sockets; `lo` is the only network interface."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    AF_INET,
    FIOGETOWN,
    FIONREAD,
    FIOSETOWN,
    SIOCATMARK,
    SIOCGIFADDR,
    SIOCGIFBRDADDR,
    SIOCGIFCONF,
    SIOCGIFDSTADDR,
    SIOCGIFFLAGS,
    SIOCGIFHWADDR,
    SIOCGIFINDEX,
    SIOCGIFMETRIC,
    SIOCGIFMTU,
    SIOCGIFNAME,
    SIOCGIFNETMASK,
    SIOCGIFTXQLEN,
    SIOCGPGRP,
    SIOCGSTAMP,
    SIOCOUTQ,
    SIOCSPGRP,
    SOCK_STREAM,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import sigio
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.net.sockets import Socket
    from shstk.tracer.kernel.task import Task

_IFREQ: Final = 40  # bytes: a name of 16, then the union
_LO: Final = b"lo".ljust(16, b"\0")


def _address(*octets: int) -> bytes:
    """struct sockaddr_in."""
    return struct.pack("<HH4s8x", AF_INET, 0, bytes(octets))


# What is stored after the name of `lo`.
_OF_LO: Final = {
    SIOCGIFFLAGS: struct.pack("<H", 0x49),  # UP, LOOPBACK, RUNNING
    SIOCGIFMETRIC: struct.pack("<i", 0),
    SIOCGIFMTU: struct.pack("<i", 65536),
    SIOCGIFHWADDR: struct.pack("<H14x", 772),  # ARPHRD_LOOPBACK
    SIOCGIFINDEX: struct.pack("<i", 1),
    SIOCGIFTXQLEN: struct.pack("<i", 1000),
}
_OF_LO_INET: Final = {
    SIOCGIFADDR: _address(127, 0, 0, 1),
    SIOCGIFDSTADDR: _address(127, 0, 0, 1),
    SIOCGIFBRDADDR: _address(0, 0, 0, 0),
    SIOCGIFNETMASK: _address(255, 0, 0, 0),
}
# Requests that change routes, interfaces or their addresses: they need a capability.
_CHANGES: Final = frozenset(
    (
        *(0x890B, 0x890C, 0x8914, 0x8916, 0x8918, 0x891A, 0x891C, 0x891E, 0x8922, 0x8923),
        *(0x8924, 0x8931, 0x8932, 0x8934, 0x8936, 0x8937, 0x8943),
    )
)


def _set_owner(k: Kernel, t: Task, sock: Socket, arg: int) -> int:
    return sigio.set_id(k, sock, usermem.get_u32(k, t, arg))


def _get_owner(k: Kernel, t: Task, sock: Socket, arg: int) -> int:
    usermem.put_u32(k, t, arg, sigio.get_id(k, sock))
    return 0


def _queued(k: Kernel, t: Task, sock: Socket, arg: int) -> int:
    if sock.backlog is not None:
        raise Errno("EINVAL")
    usermem.put_u32(k, t, arg, sock.queued)
    return 0


def _unsent(k: Kernel, t: Task, sock: Socket, arg: int) -> int:
    if sock.backlog is not None:
        raise Errno("EINVAL")
    usermem.put_u32(k, t, arg, sock.peer.used if sock.peer is not None else 0)
    return 0


def _at_mark(k: Kernel, t: Task, sock: Socket, arg: int) -> int:
    """Whether the next byte is the urgent one."""
    if sock.kind != SOCK_STREAM:
        raise Errno("ENOTTY")
    at = sock.urgent is not None and sock.inbox[0] is sock.urgent
    usermem.put_u32(k, t, arg, int(at))
    return 0


def _stamp(k: Kernel, t: Task, sock: Socket, arg: int) -> int:
    raise Errno("ENOENT" if sock.inet else "ENOTTY")


def _interfaces(k: Kernel, t: Task, sock: Socket, arg: int) -> int:
    """struct ifconf: its length, and where as many structs ifreq as fit are stored."""
    length, at = struct.unpack("<i4xQ", usermem.get(k, t, arg, 16))
    whole = _LO + _OF_LO_INET[SIOCGIFADDR].ljust(_IFREQ - 16, b"\0")
    stored = _IFREQ if not at or length >= _IFREQ else 0
    if at:
        usermem.put(k, t, at, whole[:stored])
    usermem.put_u32(k, t, arg, stored)
    return 0


_REQUESTS: Final[dict[int, Callable[[Kernel, Task, Socket, int], int]]] = {
    FIOSETOWN: _set_owner,
    SIOCSPGRP: _set_owner,
    FIOGETOWN: _get_owner,
    SIOCGPGRP: _get_owner,
    FIONREAD: _queued,
    SIOCOUTQ: _unsent,
    SIOCATMARK: _at_mark,
    SIOCGSTAMP: _stamp,
    SIOCGIFCONF: _interfaces,
}


def ioctl(k: Kernel, t: Task, sock: Socket, request: int, arg: int) -> int:
    """sock_ioctl(). Errno ENOTTY: no request of sockets; ENODEV: no such interface."""
    if request in _REQUESTS:
        return _REQUESTS[request](k, t, sock, arg)
    if request >> 8 & 0xFF != 0x89:
        raise Errno("ENOTTY")
    asked = usermem.get(k, t, arg, _IFREQ)
    if request in _CHANGES:
        raise Errno("EPERM")
    if request == SIOCGIFNAME:
        if int.from_bytes(asked[16:20], "little") != 1:
            raise Errno("ENODEV")
        usermem.put(k, t, arg, _LO + asked[16:])
        return 0
    answers = _OF_LO | (_OF_LO_INET if sock.inet else {})
    if request not in answers:
        raise Errno("ENOTTY")
    if asked[:16].split(b"\0")[0] != b"lo":
        raise Errno("ENODEV")
    answer = answers[request]
    usermem.put(k, t, arg, asked[:16] + answer + asked[16 + len(answer) :])
    return 0
