"""AF_INET and AF_INET6: TCP and UDP over loopback.

There is no other network: a connection elsewhere fails with ENETUNREACH. A name is the bytes of a
sockaddr after the family: the port (big endian) and the address, for IPv6 with flow and scope.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    CLOCK_MONOTONIC,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MSG_ERRQUEUE,
    SOCK_DGRAM,
    SOCK_STREAM,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import POLLERR, POLLHUP, POLLRDHUP, READABLE, WRITABLE, OpenFile
from shstk.tracer.kernel.net.sockets import CAPACITY, RECEIVE, SEND, Message, Socket
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.time.timers import Timer

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

PROTOCOLS: Final = {SOCK_STREAM: IPPROTO_TCP, SOCK_DGRAM: IPPROTO_UDP}
_EPHEMERAL: Final = range(32768, 61000)  # net.ipv4.ip_local_port_range
_DATAGRAM_MAX: Final = 65507
_PRIVILEGED: Final = 1024  # net.ipv4.ip_unprivileged_port_start
NAME_SIZES: Final = {AF_INET: 16, AF_INET6: 24}  # of the shortest sockaddr; SIN6_LEN_RFC2133
_V4: Final = struct.Struct(">H4s8x")
_V6: Final = struct.Struct(">HI16s4x")

UDP_CORK: Final = (IPPROTO_UDP, 1)
TCP_NODELAY: Final = (IPPROTO_TCP, 1)
TCP_CORK: Final = (IPPROTO_TCP, 3)
_SEGMENT: Final = 65483  # the most that loopback carries at once
_CORKED_NS: Final = 200_000_000  # TCP_RTO_MIN: the probe timer sends what is corked

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
    """name: at least NAME_SIZES[family] - 2 bytes; the scope of an IPv6 address may be missing."""
    form = _V4 if family == AF_INET else _V6
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


@dataclass
class Corked:
    """The parts of a datagram that is not sent yet."""

    place: Place
    data: bytearray = field(default_factory=bytearray)


class InetSocket(Socket):
    inet = True

    def __init__(self, k: Kernel, family: int, kind: int, flags: int, pid: int) -> None:
        super().__init__(k, kind, flags, pid)
        self.family = family
        self.protocol = PROTOCOLS[kind]
        self.place: Place | None = None
        self.v6only = False
        self.connecting = False  # connect(2) returned EINPROGRESS and was not called again
        self.corked: Corked | None = None
        self.other: Place | None = None  # the destination of a connected datagram socket
        self.more = False  # the call that sends has MSG_MORE
        self.held = b""  # bytes of a stream that is corked
        self.timer: _Push | None = None  # that sends them

    # Names.

    def bind(self, k: Kernel, place: Place) -> None:
        """Errno: EADDRNOTAVAIL, EACCES, EINVAL, EADDRINUSE; IPv6 looks at the address last."""
        address, port = place
        if self.family == AF_INET and not _own(address):
            raise Errno("EADDRNOTAVAIL")
        if 0 < port < _PRIVILEGED:
            raise Errno("EACCES")
        if self.place is not None or self.connected:
            raise Errno("EINVAL")
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

    def disconnect(self, k: Kernel) -> None:
        """connect(2) to AF_UNSPEC. The peer of a stream sees a reset."""
        self.other = None
        if self.kind == SOCK_STREAM and self.peer is not None and not self.peer.closed:
            self.peer.error, self.peer.shut = "ECONNRESET", RECEIVE | SEND
            self.peer.notify(k)
        self.peer, self.shut = None, 0
        self.notify(k)

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
        """The peer of a stream sees the end of its input; its own sends go on. Errno ENOTCONN; the
        waiters are woken all the same."""
        if how & SEND:
            self.push(k, k.current, len(self.held))
        self.shut |= how
        self.notify(k)
        if how & SEND and self.peer is not None and self.kind == SOCK_STREAM:
            self.peer.shut |= RECEIVE
            self.peer.notify(k)
        if self.peer is None and self.other is None and self.backlog is None:
            raise Errno("ENOTCONN")

    def released(self, k: Kernel) -> None:
        if self in _PORTS.of(k).sockets:
            _PORTS.of(k).sockets.remove(self)
        self.push(k, k.current, len(self.held))
        peer = self.peer
        shut = peer.shut | RECEIVE if peer is not None else 0
        reset = bool(self.inbox)
        super().released(k)
        if peer is not None and not peer.closed and not reset:
            peer.shut = shut

    # Bytes.

    def not_connected(self) -> Errno:
        return Errno("ENOTCONN")

    def check_receive(self, flags: int) -> None:
        if self.kind == SOCK_STREAM and self.backlog is not None:
            raise Errno("ENOTCONN")
        if flags & MSG_ERRQUEUE:  # there are no reports of errors
            raise Errno("EAGAIN")

    def check_size(self, n: int) -> None:
        if self.kind == SOCK_DGRAM and n > _DATAGRAM_MAX:
            raise Errno("EMSGSIZE")

    def check_send(self, k: Kernel, t: Task, to: Socket | None, quiet: bool) -> None:
        """tcp_sendmsg_locked(); a datagram's size and destination."""
        if self.kind == SOCK_DGRAM:
            if self.corked is None:
                self.destination(b"")
        elif self.error is not None:
            raise Errno(self.take_error() or "")
        elif to is None or self.shut & SEND:
            self._broken(k, t, quiet)

    def destination(self, name: bytes) -> Place:
        """Where a datagram goes: to the place that is named, or to the connected one.

        Errno EDESTADDRREQ, EINVAL, EAFNOSUPPORT."""
        if not name:
            if self.other is None:
                raise Errno("EDESTADDRREQ")
            return self.other
        family = int.from_bytes(name[:2], "little")
        if self.family == AF_INET6 and family not in (AF_INET, AF_INET6):
            raise Errno("EINVAL")
        if len(name) < NAME_SIZES[family if self.family == AF_INET6 else AF_INET]:
            raise Errno("EINVAL")
        if self.family == AF_INET and family not in (AF_INET, AF_UNSPEC):
            raise Errno("EAFNOSUPPORT")
        place = unpack(AF_INET6 if family == AF_INET6 else AF_INET, name[2:])
        if not place[1]:
            raise Errno("EINVAL")
        return place

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        if self.kind == SOCK_DGRAM:
            place = None if self.corked is not None else self.destination(b"")
            return self.send_datagram(k, t, data, place)
        self.more = False
        return super().write(k, t, data)

    def send_datagram(
        self, k: Kernel, t: Task, data: bytes, place: Place | None, more: bool = False
    ) -> int:
        """more: MSG_MORE, as if UDP_CORK were set for this call. The datagram goes to the place of
        its first part, once a part comes without it. Errno EMSGSIZE: all parts are dropped."""
        more = more or bool(self.options.get(UDP_CORK))
        if self.corked is None:
            assert place is not None
            if not more:
                return self.send_to(k, t, data, place)
            self.corked = Corked(place)
        self.corked.data += data
        if len(self.corked.data) > _DATAGRAM_MAX:
            self.corked = None
            raise Errno("EMSGSIZE")
        if not more:
            self.uncork(k, t)
        return len(data)

    def uncork(self, k: Kernel, t: Task) -> None:
        """udp_push_pending_frames()."""
        if (corked := self.corked) is not None:
            self.corked = None
            self.send_to(k, t, bytes(corked.data), corked.place)

    def send(
        self,
        k: Kernel,
        t: Task,
        data: bytes,
        files: list[OpenFile],
        to: Socket | None,
        quiet: bool = False,
    ) -> int | None:
        self.check_send(k, t, to, quiet)
        return super().send(k, t, data, [], to, quiet)

    def deliver(self, k: Kernel, t: Task, to: Socket, data: bytes, files: list[OpenFile]) -> None:
        """tcp_push(): only whole segments leave a socket that is corked; the rest after 200 ms."""
        if self.kind == SOCK_DGRAM:
            super().deliver(k, t, to, data, files)
            return
        self.held += data
        corked = self.more or self.options.get(TCP_CORK)
        self.push(k, t, len(self.held) // _SEGMENT * _SEGMENT if corked else len(self.held))
        if self.held:
            self.timer = self.timer or _Push(t, self)
            if self.timer.expires is None:
                self.timer.set(k, _CORKED_NS, 0)

    def send_urgent(self, k: Kernel, t: Task, byte: bytes, to: Socket) -> None:
        self.push(k, t, len(self.held))
        super().send_urgent(k, t, byte, to)

    def push(self, k: Kernel, t: Task, n: int) -> None:
        """Send the first n bytes that are held back, if there is somebody to send them to."""
        piece, self.held = self.held[:n], self.held[n:]
        if piece and self.peer is not None and not self.peer.closed:
            super().deliver(k, t, self.peer, piece, [])
        if not self.held and self.timer is not None:
            self.timer.set(k, 0, 0)

    def send_to(self, k: Kernel, t: Task, data: bytes, place: Place) -> int:
        """Send a datagram, or drop it. Without a receiver, a connected sender gets an error."""
        if self.error is not None:
            raise Errno(self.take_error() or "")
        if self.shut & SEND:
            self._broken(k, t, quiet=True)
        self.check_size(len(data))
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
            to.notify(k, READABLE)
        self.notify(k, WRITABLE)  # sock_wfree(): loopback frees what it has delivered
        return len(data)

    def ready(self, k: Kernel) -> int:
        stream = self.kind == SOCK_STREAM
        waiting = any(self.next_messages(passes=True)) if stream else self.inbox
        bits = READABLE if waiting or self.arrivals else 0
        bits |= self.urgency
        if self.error is not None:
            bits |= POLLERR | READABLE
        if self.shut & RECEIVE:
            bits |= READABLE | POLLRDHUP
        idle = self.kind == SOCK_STREAM and not self.connected and self.backlog is None
        if self.shut == RECEIVE | SEND or idle:
            bits |= POLLHUP
        full = self.peer is not None and not self._fits()
        return bits if self.backlog is not None or full else bits | WRITABLE


class _Push(Timer):
    def __init__(self, owner: Task, sock: InetSocket) -> None:
        super().__init__(CLOCK_MONOTONIC, owner)
        self.sock = sock

    @property
    def orphaned(self) -> bool:
        return False

    def ring(self, k: Kernel) -> None:
        self.sock.push(k, self.owner, len(self.sock.held))


def _source(bound: Address, goal: Address) -> Address:
    """The source address of a datagram: for a wildcard, the loopback address."""
    if not _wildcard(bound):
        return bound
    return IPv4Address("127.0.0.1") if goal.version == 4 else IPv6Address("::1")
