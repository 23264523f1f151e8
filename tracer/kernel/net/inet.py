"""AF_INET and AF_INET6: TCP and UDP over loopback.

There is no other network: a connection elsewhere fails with ENETUNREACH. A name is the bytes of a
sockaddr after the family: the port (big endian) and the address, for IPv6 with flow and scope.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import AF_INET, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import POLLERR, POLLHUP, POLLRDHUP, READABLE, WRITABLE, OpenFile
from shstk.tracer.kernel.net.sockets import CAPACITY, RECEIVE, SEND, Message, Socket
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

PROTOCOLS: Final = {SOCK_STREAM: IPPROTO_TCP, SOCK_DGRAM: IPPROTO_UDP}
_EPHEMERAL: Final = range(32768, 61000)  # net.ipv4.ip_local_port_range
_DATAGRAM_MAX: Final = 65507
_V4: Final = struct.Struct(">H4s8x")
_V6: Final = struct.Struct(">HI16s4x")

Address = IPv4Address | IPv6Address
Place = tuple[Address, int]  # address, port


def pack(family: int, place: Place) -> bytes:
    """The name of `place`; for an IPv6 socket an IPv4 address is mapped (::ffff:…)."""
    address, port = place
    if family == AF_INET:
        return _V4.pack(port, address.packed)
    mapped = b"\0" * 10 + b"\xff\xff" + address.packed if address.version == 4 else address.packed
    return _V6.pack(port, 0, mapped)


def unpack(family: int, name: bytes) -> Place:
    """Errno EINVAL: the name is too short."""
    form = _V4 if family == AF_INET else _V6
    if len(name) < form.size - (0 if family == AF_INET else 4):
        raise Errno("EINVAL")
    name = name.ljust(form.size, b"\0")[: form.size]
    if family == AF_INET:
        port, raw = _V4.unpack(name)
        return IPv4Address(raw), port
    port, _, raw = _V6.unpack(name)
    address = IPv6Address(raw)
    return address.ipv4_mapped or address, port


def unspecified(family: int) -> Address:
    return IPv4Address(0) if family == AF_INET else IPv6Address(0)


def _wildcard(address: Address) -> bool:
    return address.is_unspecified


def _own(address: Address) -> bool:
    """Whether it is a local address."""
    return address.is_loopback or _wildcard(address)


def _takes(bound: Address, v6only: bool, address: Address) -> bool:
    """Whether `bound` is a wildcard that covers `address`."""
    return _wildcard(bound) and (
        bound.version == address.version or (bound.version == 6 and not v6only)
    )


class Ports:
    """The sockets that are bound to a port."""

    def __init__(self) -> None:
        self.sockets: list[InetSocket] = []


_PORTS: Final = Slot(Ports)


class InetSocket(Socket):
    def __init__(self, k: Kernel, family: int, kind: int, flags: int, pid: int) -> None:
        super().__init__(k, kind, flags, pid)
        self.family = family
        self.protocol = PROTOCOLS[kind]
        self.place: Place | None = None
        self.v6only = False
        self.options: dict[tuple[int, int], int] = {}
        self.connecting = False  # connect(2) returned EINPROGRESS and was not called again
        self.other: Place | None = None  # the destination of a connected datagram socket

    # Names.

    def bind(self, k: Kernel, place: Place) -> None:
        """Errno: EADDRNOTAVAIL, EADDRINUSE."""
        address, port = place
        if not _own(address):
            raise Errno("EADDRNOTAVAIL")
        if not port:
            port = next((p for p in _EPHEMERAL if not self._taken(k, (address, p))), 0)
            if not port:
                raise Errno("EADDRINUSE")
        elif self._taken(k, (address, port)):
            raise Errno("EADDRINUSE")
        self.place = address, port
        self.name = pack(self.family, self.place)
        _PORTS.of(k).sockets.append(self)

    def _taken(self, k: Kernel, place: Place) -> bool:
        address, port = place
        return any(
            other.place[0] == address
            or _takes(other.place[0], other.v6only, address)
            or _takes(address, self.v6only, other.place[0])
            for other in _PORTS.of(k).sockets
            if other.kind == self.kind and other.place is not None and other.place[1] == port
        )

    def autobind(self, k: Kernel, towards: Address) -> None:
        if self.place is None:
            loopback = IPv4Address("127.0.0.1") if towards.version == 4 else IPv6Address("::1")
            self.bind(k, (loopback, 0))

    def find(self, k: Kernel, place: Place) -> InetSocket | None:
        """The socket bound to a name. A connected socket receives from its peer only.

        Errno ENETUNREACH: not a local address.
        """
        address, port = place
        if not _own(address):
            raise Errno("ENETUNREACH")
        if _wildcard(address):
            address = IPv4Address("127.0.0.1") if address.version == 4 else IPv6Address("::1")
        bound = [s for s in _PORTS.of(k).sockets if s.kind == self.kind]
        named = [s for s in bound if s.place and s.place[1] == port]
        exact = [s for s in named if s.place and s.place[0] == address]
        wide = [s for s in named if s.place and _takes(s.place[0], s.v6only, address)]
        return next(iter(exact + wide), None)

    # Connections.

    def connect(self, k: Kernel, place: Place) -> bool:
        """False: the listener's backlog is full. Errno ECONNREFUSED, ENETUNREACH, EISCONN."""
        if self.kind == SOCK_DGRAM:
            if not _own(place[0]):
                raise Errno("ENETUNREACH")
            self.autobind(k, place[0])
            self.other = place
            return True
        if self.connected:
            raise Errno("EISCONN")
        listener = self.find(k, place)
        if listener is None or listener.backlog is None:
            raise Errno("ECONNREFUSED")
        self.autobind(k, place[0])
        return listener.arrive(k, self)

    def arrival(self, k: Kernel, client: Socket) -> Socket:
        assert isinstance(client, InetSocket)
        assert self.place is not None
        assert client.place is not None
        end = InetSocket(k, self.family, self.kind, 0, self.pid)
        end.place = _source(self.place[0], client.place[0]), self.place[1]
        end.name, end.options = pack(self.family, end.place), dict(self.options)
        return end

    def names_other(self) -> bytes:
        """getpeername(2), in this socket's own family. Errno ENOTCONN."""
        place = self.other if self.kind == SOCK_DGRAM else None
        if isinstance(self.peer, InetSocket):
            place = self.peer.place
        if place is None:
            raise Errno("ENOTCONN")
        return pack(self.family, place)

    def shutdown(self, k: Kernel, how: int) -> None:
        """The peer of a stream sees the end of its input; its own sends go on."""
        self.shut |= how
        self.notify(k)
        if how & SEND and self.peer is not None and self.kind == SOCK_STREAM:
            self.peer.shut |= RECEIVE
            self.peer.notify(k)

    def released(self, k: Kernel) -> None:
        if self in _PORTS.of(k).sockets:
            _PORTS.of(k).sockets.remove(self)
        peer = self.peer
        shut = peer.shut | RECEIVE if peer is not None else 0
        reset = bool(self.inbox)
        super().released(k)
        if peer is not None and not peer.closed and not reset:
            peer.shut = shut

    # Bytes.

    def not_connected(self) -> Errno:
        return Errno("ENOTCONN")

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        if self.kind == SOCK_DGRAM:
            if self.other is None:
                raise Errno("EDESTADDRREQ")
            return self.send_to(k, t, data, self.other)
        if not self.connected:
            self._broken(k, t, quiet=False)
        return super().write(k, t, data)

    def send(
        self,
        k: Kernel,
        t: Task,
        data: bytes,
        files: list[OpenFile],
        to: Socket | None,
        quiet: bool = False,
    ) -> int | None:
        if self.kind == SOCK_DGRAM:
            if self.other is None:
                raise Errno("EDESTADDRREQ")
            return self.send_to(k, t, data, self.other)
        if not self.connected:
            self._broken(k, t, quiet)
        return super().send(k, t, data, [], to, quiet)

    def send_to(self, k: Kernel, t: Task, data: bytes, place: Place) -> int:
        """Send a datagram, or drop it. Without a receiver, a connected sender gets an error."""
        if self.error is not None:
            raise Errno(self.take_error() or "")
        if self.shut & SEND:
            self._broken(k, t, quiet=True)
        if len(data) > _DATAGRAM_MAX:
            raise Errno("EMSGSIZE")
        self.autobind(k, place[0])
        to = self.find(k, place)
        if to is None:
            self.error = "ECONNREFUSED" if self.other is not None else None
            return len(data)
        assert self.place is not None
        if to.other is not None and to.other[1] != self.place[1]:
            return len(data)
        if to.used < CAPACITY:
            sender = pack(to.family, (_source(self.place[0], place[0]), self.place[1]))
            to.inbox.append(Message(bytearray(data), sender, t.pid, []))
            to.notify(k)
        return len(data)

    def ready(self, k: Kernel) -> int:
        bits = READABLE if self.inbox or self.arrivals else 0
        if self.error is not None:
            bits |= POLLERR | READABLE
        if self.shut & RECEIVE:
            bits |= READABLE | POLLRDHUP
        idle = self.kind == SOCK_STREAM and not self.connected and self.backlog is None
        if self.shut == RECEIVE | SEND or idle:
            bits |= POLLHUP
        full = self.peer is not None and not self._fits()
        return bits if self.backlog is not None or full else bits | WRITABLE


def _source(bound: Address, goal: Address) -> Address:
    """The source address of a datagram: for a wildcard, the loopback address."""
    if not _wildcard(bound):
        return bound
    return IPv4Address("127.0.0.1") if goal.version == 4 else IPv6Address("::1")
