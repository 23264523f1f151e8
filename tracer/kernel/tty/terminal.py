"""The controlling terminal of a run with --tty: descriptors 0, 1 and 2, /dev/tty, /dev/pts/0.

The user is outside the virtual clock: the guest always finds the next line already typed. poll
reports the terminal readable, and a read waits for the user even if other tasks could run. So a run
depends on the bytes that are typed, never on the time. The host does the echo and line editing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, cast

from shstk.schemas.uapi import (
    FIONREAD,
    O_RDWR,
    TCFLSH,
    TCSBRK,
    TCSBRKP,
    TCXONC,
    TIOCGETD,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCSCTTY,
    TIOCSETD,
    TIOCSPGRP,
    TIOCSWINSZ,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import READABLE, WRITABLE, OpenFile
from shstk.tracer.kernel.fs.inode import Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.tty import termio
from shstk.tracer.kernel.tty.discipline import COOKED, ICANON, TERMIOS, TOSTOP
from shstk.tracer.kernel.tty.jobs import check_foreground, new_foreground
from shstk.tracer.kernel.tty.termio import (
    TCION,
    Settings,
    line_discipline,
    set_line_discipline,
)

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

PATH: Final = "/dev/pts/0"
TTY: Final = 0x500  # /dev/tty
_PTS: Final = 0x8800


class Terminal(Protocol):
    """The user's end of the terminal. size: rows and columns."""

    size: tuple[int, int]

    def read(self) -> bytes | None:
        """Wait for input and return it; empty at the end of input. None: the run should end."""
        ...

    def set_attributes(self, termios: bytes) -> None: ...


@dataclass
class Typed:
    """A terminal without a user: its input is known in advance."""

    data: bytes
    size: tuple[int, int] = (24, 80)

    def read(self) -> bytes:
        data, self.data = self.data, b""
        return data

    def set_attributes(self, termios: bytes) -> None:
        pass


@dataclass(eq=False)
class TerminalNode(Inode):
    """foreground: the process group; None: that of the first process."""

    typed: bytearray = field(default_factory=bytearray)
    termios: bytes = COOKED
    winsize: bytes = b""  # set by the guest; empty: the host's
    foreground: int | None = None

    @property
    def _lflag(self) -> int:
        flags: int = TERMIOS.unpack(self.termios)[3]
        return flags

    @property
    def canonical(self) -> bool:
        return bool(self._lflag & ICANON)

    def permit_use(self, k: Kernel, t: Task, signal: str) -> None:
        foreground = k.first.pgid if self.foreground is None else self.foreground
        check_foreground(k, t, k.first.sid, foreground, signal)

    def permit_write(self, k: Kernel, t: Task) -> None:
        if self._lflag & TOSTOP:
            self.permit_use(k, t, "SIGTTOU")


class TerminalFile(OpenFile):
    """fd: the output stream that its writes are recorded as."""

    def __init__(self, inode: TerminalNode, flags: int, fd: int = 1) -> None:
        super().__init__(inode, flags, PATH)
        self.fd = fd

    @property
    def node(self) -> TerminalNode:
        return cast(TerminalNode, self.inode)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        """Up to n bytes; in canonical mode no more than a line."""
        self.node.permit_use(k, t, "SIGTTIN")
        typed = self.node.typed
        if not typed:
            assert k.terminal is not None
            if (data := k.terminal.read()) is None:
                return None
            typed += data
            k.rec.row("typed", seq=k.here(), tid=t.tid, mm=t.mm_id, bytes=data)
        end = typed.find(b"\n") + 1 if self.node.canonical else 0
        return bytes(typed[: min(n, end or len(typed))])

    def advance(self, k: Kernel, n: int) -> None:
        del self.node.typed[:n]

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        if data:
            self.node.permit_write(k, t)
            k.rec.row("output", seq=k.seq(), tid=t.tid, mm=t.mm_id, fd=self.fd, bytes=data)
            k.stdout_write(self.fd, data)
        return len(data)

    def ready(self, k: Kernel) -> int:
        return READABLE | WRITABLE

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if termio.ioctl(k, t, _settings(k, t, self.node), request, arg):
            return 0
        if request not in _REQUESTS:
            raise Errno("ENOTTY")
        return _REQUESTS[request](k, t, self.node, arg)


def _settings(k: Kernel, t: Task, node: TerminalNode) -> Settings:
    def apply(termios: bytes, flush: bool) -> None:
        """Nothing is there to flush: input counts as typed after the call."""
        assert k.terminal is not None
        node.termios = termios
        k.terminal.set_attributes(termios)

    def permit() -> None:
        node.permit_use(k, t, "SIGTTOU")

    return Settings(node.termios, apply, permit)


def _get_size(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    """struct winsize."""
    assert k.terminal is not None
    usermem.put(k, t, arg, node.winsize or struct.pack("<4H", *k.terminal.size, 0, 0))
    return 0


def _set_size(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    node.winsize = usermem.get(k, t, arg, 8)
    return 0


def _get_foreground(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    first = k.first.pgid
    usermem.put_u32(k, t, arg, first if node.foreground is None else node.foreground)
    return 0


def _set_foreground(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    node.permit_use(k, t, "SIGTTOU")
    node.foreground = new_foreground(k, t, arg)
    return 0


def _get_session(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    usermem.put_u32(k, t, arg, k.first.sid)
    return 0


def _left(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    usermem.put_u32(k, t, arg, len(node.typed))
    return 0


def _nothing(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    return 0


def _break(k: Kernel, t: Task, node: TerminalNode, arg: int) -> int:
    """TCSBRK (tcdrain, tcsendbreak): output is never pending, and there is no line to break."""
    node.permit_use(k, t, "SIGTTOU")
    return 0


def _flow_or_flush(k: Kernel, t: Task, node: TerminalNode, arg: int, most: int) -> int:
    """TCXONC, TCFLSH: nothing is ever suspended or queued here."""
    node.permit_use(k, t, "SIGTTOU")
    if arg > most:
        raise Errno("EINVAL")
    return 0


_REQUESTS: Final[dict[int, Callable[[Kernel, Task, TerminalNode, int], int]]] = {
    TCSBRK: _break,
    TCSBRKP: _break,
    TCXONC: partial(_flow_or_flush, most=TCION),
    TCFLSH: partial(_flow_or_flush, most=2),
    TIOCGETD: line_discipline,
    TIOCSETD: set_line_discipline,
    TIOCSCTTY: _nothing,
    TIOCGPGRP: _get_foreground,
    TIOCSPGRP: _set_foreground,
    TIOCGWINSZ: _get_size,
    TIOCSWINSZ: _set_size,
    TIOCGSID: _get_session,
    FIONREAD: _left,
}


def terminal_files(k: Kernel) -> list[OpenFile]:
    """Descriptors 0, 1 and 2; the terminal appears in /dev."""
    node = TerminalNode(k.sandbox.new_ino(), 0o20620, rdev=_PTS)
    k.sandbox.pts.entries["0"] = node
    return [TerminalFile(node, O_RDWR, fd) for fd in (1, 1, 2)]


def controlling(k: Kernel, t: Task) -> TerminalNode:
    """The terminal that /dev/tty refers to, in the session of the first process. Errno ENXIO."""
    if k.terminal is None or t.process.sid != k.first.sid:
        raise Errno("ENXIO")
    return cast(TerminalNode, k.sandbox.pts.entries["0"])
