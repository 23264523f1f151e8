"""Pseudo-terminals, /dev/ptmx and /dev/pts/N (drivers/tty/pty.c), and controlling terminals."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, cast

from shstk.schemas.uapi import (
    FIONREAD,
    O_NOCTTY,
    SIGNALS,
    TCFLSH,
    TCSBRK,
    TCSBRKP,
    TCXONC,
    TIOCGETD,
    TIOCGPGRP,
    TIOCGPTLCK,
    TIOCGPTN,
    TIOCGPTPEER,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCNOTTY,
    TIOCOUTQ,
    TIOCPKT,
    TIOCSCTTY,
    TIOCSETD,
    TIOCSPGRP,
    TIOCSPTLCK,
    TIOCSWINSZ,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import POLLHUP, READABLE, WRITABLE, OpenFile, wake
from shstk.tracer.kernel.fs.inode import DEV_ANON, Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.tty import termio
from shstk.tracer.kernel.tty.discipline import TOSTOP, VMIN, VTIME, Discipline
from shstk.tracer.kernel.tty.jobs import check_foreground, new_foreground, to_group
from shstk.tracer.kernel.tty.termio import (
    TCION,
    Settings,
    line_discipline,
    set_line_discipline,
)

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Process, Task

PTMX: Final = 0x502
_PTS: Final = 0x8800
_ROOM: Final = 65536  # bytes that the other end has not read yet
_PIECE: Final = 2048  # bytes that tty_write hands on at a time
_TENTH: Final = 100_000_000  # ns, the unit of VTIME


@dataclass(eq=False)
class Slave(Inode):
    """/dev/pts/N, and the state that its two ends share. session: the session whose controlling
    terminal it is."""

    number: int = 0
    master: Inode | None = None
    discipline: Discipline = field(default_factory=Discipline)
    output: bytearray = field(default_factory=bytearray)
    winsize: bytes = bytes(8)
    locked: bool = True
    hung_up: bool = False  # the master was closed
    slaves: int = 0
    opened: bool = False
    session: int | None = None
    foreground: int = 0

    def notify(self, k: Kernel) -> None:
        """Wake the waiters of both ends."""
        self.output += self.discipline.echoed[: max(_ROOM - len(self.output), 0)]
        self.discipline.echoed.clear()
        for inode in (self, self.master):
            if inode is not None:
                wake(k, inode)

    def permit_use(self, k: Kernel, t: Task, signal: str) -> None:
        check_foreground(k, t, self.session, self.foreground, signal)


class MasterFile(OpenFile):
    """The end of a terminal emulator."""

    def __init__(self, slave: Slave, inode: Inode, flags: int) -> None:
        super().__init__(inode, flags, "/dev/ptmx")
        self.slave = slave

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        if self.slave.output:
            return bytes(self.slave.output[:n])
        if self.slave.opened and not self.slave.slaves:
            raise Errno("EIO")
        return None

    def advance(self, k: Kernel, n: int) -> None:
        del self.slave.output[:n]
        self.slave.notify(k)

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        discipline, taken = self.slave.discipline, 0
        while taken < len(data) and discipline.available() < _ROOM:
            for signo in discipline.typed(data[taken : taken + _PIECE]):
                to_group(k, self.slave.foreground, signo)
            taken = min(taken + _PIECE, len(data))
            self.slave.notify(k)
            k.breathe()
        return taken if taken or not data else None

    def ready(self, k: Kernel) -> int:
        gone = self.slave.opened and not self.slave.slaves
        writable = self.slave.discipline.available() < _ROOM
        return (
            (WRITABLE if writable else 0)
            | (READABLE if self.slave.output else 0)
            | (POLLHUP if gone else 0)
        )

    def details(self, k: Kernel) -> str:
        return f"tty-index:\t{self.slave.number}\n"

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        return _ioctl(k, t, self.slave, request, arg, _OF_MASTER)

    def released(self, k: Kernel) -> None:
        """Hang up the slave."""
        self.slave.hung_up = True
        k.sandbox.pts.entries.pop(str(self.slave.number), None)
        hang_up(k, self.slave)
        self.slave.notify(k)


class SlaveFile(OpenFile):
    def __init__(self, slave: Slave, flags: int) -> None:
        super().__init__(slave, flags, f"/dev/pts/{slave.number}")
        slave.slaves += 1
        slave.opened = True

    @property
    def slave(self) -> Slave:
        return cast(Slave, self.inode)

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        discipline = self.slave.discipline
        if self.slave.hung_up:
            return b""
        self.slave.permit_use(k, t, "SIGTTIN")
        if discipline.canonical:
            if not discipline.lines:
                return None
        elif discipline.available() < max(1, min(discipline.cc(VMIN), n)):
            return b"" if self._waited(k, t) else None
        data = discipline.peek(n)
        if not data:
            discipline.advance(0)  # consume the end of file: it is read once
        return data

    def _waited(self, k: Kernel, t: Task) -> bool:
        """With VMIN = 0, a read waits for VTIME tenths of a second and then returns 0 bytes."""
        if self.slave.discipline.cc(VMIN):
            return False
        until = self.deadline(k, t)
        return until is None or k.now_ns() >= until

    def deadline(self, k: Kernel, t: Task, writes: bool = False) -> int | None:
        discipline = self.slave.discipline
        if writes or discipline.canonical or discipline.cc(VMIN) or not discipline.cc(VTIME):
            return None
        assert t.blocked is not None
        if t.blocked.expires is None:
            t.blocked.expires = k.now_ns() + discipline.cc(VTIME) * _TENTH
        return t.blocked.expires

    def advance(self, k: Kernel, n: int) -> None:
        self.slave.discipline.advance(n)
        self.slave.notify(k)

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        if self.slave.hung_up:
            raise Errno("EIO")
        if self.slave.discipline.lflag & TOSTOP:
            self.slave.permit_use(k, t, "SIGTTOU")
        room = _ROOM - len(self.slave.output)
        if data and room <= 0:
            return None
        taken = data[:room]
        self.slave.output += self.slave.discipline.shown(taken)
        self.slave.notify(k)
        return len(taken)

    def ready(self, k: Kernel) -> int:
        slave = self.slave
        if slave.hung_up:
            return READABLE | WRITABLE | POLLHUP
        needed = 1 if slave.discipline.canonical else max(1, slave.discipline.cc(VMIN))
        full = slave.discipline.lines and (
            slave.discipline.canonical or slave.discipline.available() >= needed
        )
        return (READABLE if full else 0) | (WRITABLE if len(slave.output) < _ROOM else 0)

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        return _ioctl(k, t, self.slave, request, arg, {})

    def released(self, k: Kernel) -> None:
        self.slave.slaves -= 1
        self.slave.notify(k)


# Opening.


def open_master(k: Kernel, inode: Inode, flags: int) -> MasterFile:
    entries = k.sandbox.pts.entries
    number = next(n for n in range(len(entries) + 1) if str(n) not in entries)
    own = Inode(k.sandbox.new_ino(), stat.S_IFCHR | 0o666, dev=DEV_ANON, rdev=inode.rdev)
    slave = Slave(k.sandbox.new_ino(), stat.S_IFCHR | 0o620, rdev=_PTS + number, number=number)
    slave.master = own
    entries[str(number)] = slave
    return MasterFile(slave, own, flags)


def open_slave(k: Kernel, t: Task, slave: Slave, flags: int) -> SlaveFile:
    """It becomes the controlling terminal of a session leader that has none. Errno EIO: locked or
    hung up."""
    if slave.locked or slave.hung_up:
        raise Errno("EIO")
    file = SlaveFile(slave, flags & ~O_NOCTTY)
    if not flags & O_NOCTTY and slave.session is None and _may_take(k, t):
        _take_over(t, slave)
    return file


def controlling(k: Kernel, process: Process) -> Slave | None:
    """The pseudo-terminal of a process's session, if it has one."""
    for inode in k.sandbox.pts.entries.values():
        if isinstance(inode, Slave) and inode.session == process.sid:
            return inode
    return None


def _may_take(k: Kernel, t: Task) -> bool:
    """Whether the task leads a session that has no terminal."""
    leads = t.process.sid == t.process.pid
    has = k.terminal is not None and t.process.sid == k.first.sid
    return leads and not has and controlling(k, t.process) is None


def _take_over(t: Task, slave: Slave) -> None:
    slave.session, slave.foreground = t.process.sid, t.process.pgid


# The end of a session.


def hang_up(k: Kernel, slave: Slave) -> None:
    """The session loses its terminal: send SIGHUP and SIGCONT to the foreground and the leader."""
    session, slave.session = slave.session, None
    if session is None:
        return
    leader = k.processes.get(session)
    groups = {slave.foreground} | ({leader.pgid} if leader is not None else set())
    for group in sorted(groups - {0}):
        to_group(k, group, SIGNALS["SIGHUP"])
        to_group(k, group, SIGNALS["SIGCONT"])


def session_ended(k: Kernel, process: Process) -> None:
    """disassociate_ctty, when a session's leader exits."""
    if process.sid == process.pid and (slave := controlling(k, process)) is not None:
        slave.session = None
        to_group(k, slave.foreground, SIGNALS["SIGHUP"])
        to_group(k, slave.foreground, SIGNALS["SIGCONT"])


# ioctl.


def _settings(k: Kernel, t: Task, slave: Slave) -> Settings:
    def apply(termios: bytes, flush: bool) -> None:
        if flush:
            slave.discipline.flush()
        slave.discipline.set(termios)
        slave.notify(k)

    def permit() -> None:
        slave.permit_use(k, t, "SIGTTOU")

    return Settings(slave.discipline.termios, apply, permit)


def _flush(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    """TCFLSH: TCIFLUSH (0) discards input, TCOFLUSH (1) output, TCIOFLUSH (2) both."""
    slave.permit_use(k, t, "SIGTTOU")
    if arg > 2:
        raise Errno("EINVAL")
    if arg != 1:
        slave.discipline.flush()
    if arg != 0:
        slave.output.clear()
    slave.notify(k)
    return 0


def _flow(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    """TCXONC: output is never suspended here."""
    slave.permit_use(k, t, "SIGTTOU")
    if arg > TCION:
        raise Errno("EINVAL")
    return 0


def _break(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    """TCSBRK (tcdrain, tcsendbreak): output is never pending, and there is no line to break."""
    slave.permit_use(k, t, "SIGTTOU")
    return 0


def _get_size(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    usermem.put(k, t, arg, slave.winsize)
    return 0


def _set_size(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    size = usermem.get(k, t, arg, 8)
    if size != slave.winsize:
        slave.winsize = size
        to_group(k, slave.foreground, SIGNALS["SIGWINCH"])
    return 0


def _get_foreground(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    usermem.put_u32(k, t, arg, slave.foreground)
    return 0


def _set_foreground(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    if slave.session != t.process.sid:
        raise Errno("ENOTTY")
    slave.permit_use(k, t, "SIGTTOU")
    slave.foreground = new_foreground(k, t, arg)
    return 0


def _get_session(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    if slave.session is None:
        raise Errno("ENOTTY")
    usermem.put_u32(k, t, arg, slave.session)
    return 0


def _make_controlling(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    if slave.session == t.process.sid:
        return 0
    if slave.session is not None or not _may_take(k, t):
        raise Errno("EPERM")
    _take_over(t, slave)
    return 0


def _give_up(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    if slave.session != t.process.sid:
        raise Errno("ENOTTY")
    if t.process.sid == t.process.pid:
        slave.session = None
    return 0


def _left(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    usermem.put_u32(k, t, arg, slave.discipline.available())
    return 0


def _unsent(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    usermem.put_u32(k, t, arg, len(slave.output))
    return 0


def _number(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    usermem.put_u32(k, t, arg, slave.number)
    return 0


def _lock(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    slave.locked = bool(usermem.get_u32(k, t, arg))
    return 0


def _is_locked(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    usermem.put_u32(k, t, arg, int(slave.locked))
    return 0


def _open_peer(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    locked, slave.locked = slave.locked, False
    try:
        return t.files.add(t, open_slave(k, t, slave, arg), cloexec=bool(arg & 0o2000000))
    finally:
        slave.locked = locked


def _nothing(k: Kernel, t: Task, slave: Slave, arg: int) -> int:
    return 0


Request = Callable[["Kernel", "Task", Slave, int], int]


def _own(k: Kernel, t: Task, slave: Slave, arg: int, of: Request) -> int:
    """Asked of the slave, and answered only for the caller's controlling terminal."""
    if slave.session != t.process.sid:
        raise Errno("ENOTTY")
    return of(k, t, slave, arg)


_OF_BOTH: Final[dict[int, Request]] = {
    TCSBRK: _break,
    TCSBRKP: _break,
    TCXONC: _flow,
    TCFLSH: _flush,
    TIOCGETD: line_discipline,
    TIOCSETD: set_line_discipline,
    TIOCSCTTY: _make_controlling,
    TIOCGPGRP: partial(_own, of=_get_foreground),
    TIOCSPGRP: _set_foreground,
    TIOCOUTQ: _unsent,
    TIOCGWINSZ: _get_size,
    TIOCSWINSZ: _set_size,
    FIONREAD: _left,
    TIOCNOTTY: _give_up,
    TIOCGSID: partial(_own, of=_get_session),
}
_OF_MASTER: Final[dict[int, Request]] = {
    TIOCGPGRP: _get_foreground,
    TIOCGSID: _get_session,
    FIONREAD: _unsent,
    TIOCPKT: _nothing,  # packet mode: the events it reports never happen
    TIOCGPTN: _number,
    TIOCSPTLCK: _lock,
    TIOCGPTLCK: _is_locked,
    TIOCGPTPEER: _open_peer,
}


def _ioctl(
    k: Kernel, t: Task, slave: Slave, request: int, arg: int, own: dict[int, Request]
) -> int:
    if termio.ioctl(k, t, _settings(k, t, slave), request, arg):
        return 0
    handler = own.get(request) or _OF_BOTH.get(request)
    if handler is None:
        raise Errno("ENOTTY")
    return handler(k, t, slave, arg)
