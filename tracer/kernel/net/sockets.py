"""AF_UNIX sockets, and the transfer of bytes and files between them (net/unix)."""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    MSG_OOB,
    O_RDWR,
    SI_USER,
    SIGNALS,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import sigio
from shstk.tracer.kernel.fs.files import (
    POLLERR,
    POLLHUP,
    POLLPRI,
    POLLRDHUP,
    READABLE,
    WRITABLE,
    OpenFile,
)
from shstk.tracer.kernel.fs.inode import DEV_ANON, Inode
from shstk.tracer.kernel.net import sockioctl
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

SO_RCVTIMEO, SO_SNDTIMEO = 20, 21
_SO_OOBINLINE: Final = 10
RECEIVE, SEND = 1, 2  # RCV_SHUTDOWN, SEND_SHUTDOWN
CAPACITY: Final = 212992  # net.core.wmem_default
BACKLOG_MAX: Final = 4096  # net.core.somaxconn
_DATAGRAMS: Final = 10  # net.unix.max_dgram_qlen; not for the receiver's peer
_PIECE: Final = 32768  # maximum bytes of a stream in one message


@dataclass(eq=False)
class SocketNode(Inode):
    """The file that a socket is bound to."""

    socket: Socket | None = None


@dataclass(eq=False)
class Message:
    """sender: its sun_path. pid: the sending process. files: in flight (SCM_RIGHTS). told: an
    urgent byte that MSG_OOB has read."""

    data: bytearray
    sender: bytes
    pid: int
    files: list[OpenFile]
    told: bool = False

    def __post_init__(self) -> None:
        # skb->truesize: the sk_buff, and the kmalloc size of the data with skb_shared_info.
        self.cost = 256 + 512 * -(-(len(self.data) + 320) // 512)
        for file in self.files:
            file.refs += 1

    def drop(self, k: Kernel) -> None:
        for file in self.files:
            file.put(k)


class Socket(OpenFile):
    """A socket. A connected stream or packet socket keeps its `peer` after that closes; the `peer`
    of a datagram socket is its default destination."""

    family = 1  # AF_UNIX
    protocol = 0
    inet = False

    def __init__(self, k: Kernel, kind: int, flags: int, pid: int) -> None:
        ino = k.sandbox.new_ino()
        inode = Inode(ino, stat.S_IFSOCK | 0o777, dev=DEV_ANON)
        super().__init__(inode, O_RDWR | flags, f"socket:[{ino}]")
        self.kind = kind
        self.name = b""  # sun_path; b"": unbound
        self.pid = pid  # of the process that created it or called listen
        self.peer: Socket | None = None
        self.peer_pid: int | None = None  # SO_PEERCRED
        self.inbox: deque[Message] = deque()
        self.backlog: int | None = None  # of a listening socket
        self.arrivals: deque[Socket] = deque()  # connections for accept(2)
        self.shut = 0
        self.error: str | None = None
        self.passcred = False
        self.linger = bytes(8)  # SO_LINGER's struct
        self.options: dict[tuple[int, int], int] = {}  # that setsockopt stored: (level, option)
        self.timeouts: dict[int, int] = {}  # SO_RCVTIMEO, SO_SNDTIMEO: ns
        self.closed = False
        self.turned_away: dict[Socket, None] = {}  # senders that found the inbox full
        self.urgent: Message | None = None  # the last byte in the inbox that was sent by MSG_OOB

    @property
    def connected(self) -> bool:
        """TCP_ESTABLISHED."""
        return self.kind != SOCK_DGRAM and self.peer is not None

    @property
    def queued(self) -> int:
        """The bytes that a read can return (SIOCINQ)."""
        if self.kind != SOCK_STREAM and self.inbox:
            return len(self.inbox[0].data)
        return sum(len(message.data) for message in self.next_messages())

    @property
    def takes_urgent_inline(self) -> bool:
        return bool(self.options.get((SOL_SOCKET, _SO_OOBINLINE)))

    @property
    def ends_a_read(self) -> bool:
        """MSG_WAITALL waits for no more: files come, or an urgent byte has."""
        return self.urgent is not None or bool(self.inbox[0].files)

    def next_messages(self, passes: bool = False) -> Iterator[Message]:
        """What a read of a stream gets. It ends before an urgent byte; one that begins there leaves
        the byte out, or has it in line. passes: read on where the byte is all that there is."""
        begun = False
        for message in self.inbox:
            if message is self.urgent and not self.takes_urgent_inline:
                if begun or not passes:
                    return
                continue
            if message is self.urgent and begun:
                return
            begun = True
            yield message

    def has_room(self, sender: Socket) -> bool:
        if self.kind == SOCK_DGRAM and self.peer is not sender and len(self.inbox) > _DATAGRAMS:
            return False
        return self.used < CAPACITY

    @property
    def used(self) -> int:
        return sum(message.cost for message in self.inbox)

    # Receiving.

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        """A datagram socket returns the first message."""
        stream = self.kind == SOCK_STREAM
        if self.kind != SOCK_DGRAM and not self.connected:
            raise self.not_connected()
        messages = list(self.next_messages(passes=True)) if stream else list(self.inbox)
        if not messages:
            if self.error is not None:
                raise Errno(self.take_error() or "")
            return b"" if self.shut & RECEIVE else None
        out = bytearray()
        for message in messages:
            out += message.data[: n - len(out)]
            # A read ends after a message that carries files.
            if not stream or len(out) >= n or message.files:
                break
        return bytes(out)

    def check_receive(self, flags: int) -> None:
        """What the flags of a receiving call ask for in vain."""
        if self.kind == SOCK_SEQPACKET and self.peer is None:
            raise Errno("ENOTCONN")
        if self.kind == SOCK_STREAM and not self.connected:
            raise self.not_connected()
        if flags & MSG_OOB and self.kind != SOCK_STREAM:
            raise Errno("EOPNOTSUPP")

    def check_size(self, n: int) -> None:
        """Errno EMSGSIZE: a message of n bytes is never sent."""
        if self.kind != SOCK_STREAM and n > CAPACITY - 32:
            raise Errno("EMSGSIZE")

    def not_connected(self) -> Errno:
        return Errno("EINVAL" if self.kind == SOCK_STREAM else "ENOTCONN")

    def advance(self, k: Kernel, n: int) -> None:
        for file in self.take(k, n):
            file.put(k)

    def take(self, k: Kernel, n: int) -> list[OpenFile]:
        """Consume n bytes of a stream, or a whole message. Return the files that came with them;
        the caller now owns their references."""
        files: list[OpenFile] = []
        waiting, self.turned_away = self.turned_away, {}
        waiting |= {self.peer: None} if self.peer else {}
        stuck = {sender for sender in waiting if not sender.ready(k) & WRITABLE}
        if self.kind != SOCK_STREAM and self.inbox:
            files = self.inbox.popleft().files
        while self.kind == SOCK_STREAM and n > 0:
            first = self.inbox[0]
            if first is self.urgent:
                self.urgent = None
                if not self.takes_urgent_inline:
                    self.inbox.popleft()
                    continue
            files += first.files
            first.files = []
            used = min(n, len(first.data))
            del first.data[:used]
            n -= used
            if not first.data:
                self.inbox.popleft()
        for sender in waiting:  # unix_write_space(); sk_stream_write_space() after a full buffer
            sender.notify(k, WRITABLE if not self.inet or sender in stuck else 0)
        return files

    def unbroken(self, n: int) -> int:
        """A stream transfers whole messages, as they were sent."""
        moved = 0
        for message in self.next_messages(passes=True) if self.kind == SOCK_STREAM else ():
            if moved + len(message.data) > n:
                break
            moved += len(message.data)
        return moved

    def take_error(self) -> str | None:
        """SO_ERROR: return the error and clear it."""
        error, self.error = self.error, None
        return error

    # Sending.

    def admit(self, k: Kernel, t: Task, n: int) -> None:
        self.check_send(k, t, self.peer, quiet=False)

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        return self.send(k, t, data, [], self.peer)

    def check_send(self, k: Kernel, t: Task, to: Socket | None, quiet: bool) -> None:
        """What refuses to send, before a byte of the message is read. quiet: no SIGPIPE."""
        if self.kind == SOCK_SEQPACKET and self.error is not None:
            raise Errno(self.take_error() or "")
        if to is None:
            raise Errno("ENOTCONN")
        if self.kind == SOCK_STREAM and self.shut & SEND:
            self._broken(k, t, quiet)

    def send(
        self,
        k: Kernel,
        t: Task,
        data: bytes,
        files: list[OpenFile],
        to: Socket | None,
        quiet: bool = False,
    ) -> int | None:
        """The number of bytes sent; None if the receiver is full. quiet: no SIGPIPE."""
        if self.error is not None:
            raise Errno(self.take_error() or "")
        if to is None:
            raise Errno("ENOTCONN")
        if self.shut & SEND or (to.shut & RECEIVE and not to.closed):
            self._broken(k, t, quiet)
        if to.closed:
            if self.kind != SOCK_DGRAM:
                self._broken(k, t, quiet)
            self.peer = None if to is self.peer else self.peer
            raise Errno("ECONNREFUSED")
        if self.kind == SOCK_DGRAM and to.peer not in (None, self):
            raise Errno("EPERM")
        self.check_size(len(data))
        if self.kind == SOCK_STREAM and not data:
            return 0
        if not to.has_room(self):
            to.turned_away[self] = None
            return None
        piece = data[:_PIECE] if self.kind == SOCK_STREAM else data
        self.deliver(k, t, to, piece, files)
        return len(piece)

    def deliver(self, k: Kernel, t: Task, to: Socket, data: bytes, files: list[OpenFile]) -> None:
        to.inbox.append(Message(bytearray(data), self.name, t.pid, files))
        to.notify(k, READABLE)

    def send_urgent(self, k: Kernel, t: Task, byte: bytes, to: Socket) -> None:
        """The byte before it that was urgent is one like any other now."""
        Socket.deliver(self, k, t, to, byte, [])
        to.urgent = to.inbox[-1]
        sigio.urgent(k, to)
        to.notify(k, POLLPRI)

    def _broken(self, k: Kernel, t: Task, quiet: bool) -> None:
        if self.kind == SOCK_STREAM and not quiet:
            signals.send(k, t, SIGNALS["SIGPIPE"], SI_USER, sender=t.pid)
        raise Errno("EPIPE")

    # Connections.

    def join(self, other: Socket) -> None:
        """Connect two sockets to each other."""
        self.peer, other.peer = other, self
        self.peer_pid, other.peer_pid = other.pid, self.pid

    def arrive(self, k: Kernel, client: Socket) -> bool:
        """connect(2) to this listening socket: queue the other end. False: the backlog is full."""
        assert self.backlog is not None
        if len(self.arrivals) > self.backlog:
            return False
        end = self.arrival(k, client)
        client.join(end)
        self.arrivals.append(end)
        self.notify(k, READABLE)
        client.notify(k)
        return True

    def arrival(self, k: Kernel, client: Socket) -> Socket:
        """The end that accept(2) will return."""
        end = Socket(k, self.kind, 0, self.pid)
        end.name, end.passcred = self.name, self.passcred
        return end

    def shutdown(self, k: Kernel, how: int) -> None:
        """how: RECEIVE | SEND. A connected peer is shut down in the opposite direction."""
        self.shut |= how
        self.notify(k)
        if self.connected and self.peer is not None:
            self.peer.shut |= (SEND if how & RECEIVE else 0) | (RECEIVE if how & SEND else 0)
            self.peer.notify(k)

    def released(self, k: Kernel) -> None:
        self.closed = True
        abstract = ABSTRACT_NAMES.of(k).sockets
        if abstract.get((self.kind, self.name)) is self:
            del abstract[self.kind, self.name]
        if self.connected and self.peer is not None and not self.peer.closed:
            if self.inbox:
                self.peer.error = "ECONNRESET"
            self.peer.shut = RECEIVE | SEND
        for end in self.arrivals:
            assert end.peer is not None
            end.released(k)
            end.peer.error = "ECONNRESET"
        left, self.inbox = self.inbox, deque()
        for message in left:
            message.drop(k)
        for other in self.turned_away | ({self.peer: None} if self.peer else {}):
            other.notify(k)
        self.notify(k)

    # Readiness.

    def ready(self, k: Kernel) -> int:
        bits = READABLE if self.inbox or self.arrivals else 0
        bits |= self.urgency
        if self.error is not None:
            bits |= POLLERR
        if self.shut & RECEIVE:
            bits |= READABLE | POLLRDHUP
        idle = self.kind != SOCK_DGRAM and not self.connected and self.backlog is None
        if self.shut == RECEIVE | SEND or idle:
            bits |= POLLHUP
        full = self.peer is not None and (self.peer.used * 4 > CAPACITY or not self._fits())
        return bits if self.backlog is not None or full else bits | WRITABLE

    @property
    def urgency(self) -> int:
        return POLLPRI if self.urgent is not None and not self.urgent.told else 0

    def _fits(self) -> bool:
        return self.peer is None or self.peer.closed or self.peer.has_room(self)

    def deadline(self, k: Kernel, t: Task, writes: bool = False) -> int | None:
        timeout = self.timeouts.get(SO_SNDTIMEO if writes else SO_RCVTIMEO)
        assert t.blocked is not None
        if timeout is not None and t.blocked.expires is None:
            t.blocked.expires = k.now_ns() + timeout
        return t.blocked.expires

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        return sockioctl.ioctl(k, t, self, request, arg)


class AbstractNames:
    """The abstract names: they begin with NUL and are not in the file system. Each kind of sockets
    has its own."""

    def __init__(self) -> None:
        self.sockets: dict[tuple[int, bytes], Socket] = {}


ABSTRACT_NAMES: Final = Slot(AbstractNames)


def socket_of(t: Task, fd: int) -> Socket:
    file = t.files.get(fd)
    if not isinstance(file, Socket):
        raise Errno("ENOTSOCK")
    return file
