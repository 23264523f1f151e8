"""POSIX message queues (ipc/mqueue.c)."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    O_ACCMODE,
    O_CREAT,
    O_EXCL,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    SI_MESGQ,
)
from shstk.tracer.kernel.call import RESTART, Args, Call, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import READABLE, WRITABLE, OpenFile
from shstk.tracer.kernel.fs.inode import DEV_ANON, NAME_MAX, READ, WRITE, Inode
from shstk.tracer.kernel.ipc.ids import asleep
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import NSIG
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.task import Siginfo
from shstk.tracer.kernel.time.clock import get_timespec, realtime_ns

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Process, Task

MESSAGES_MAX, SIZE_MAX, QUEUES_MAX = 10, 8192, 256  # /proc/sys/fs/mqueue; they are the defaults too
_PRIORITIES: Final = 32768
_OVERHEAD: Final = 48 + 48  # struct msg_msg and struct posix_msg_tree_node, for each message
_ATTR: Final = struct.Struct("<4q32x")  # struct mq_attr: flags, maxmsg, msgsize, curmsgs
_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD = 0, 1, 2
_SIGEVENT: Final = struct.Struct("<Qii48x")  # value, signo, notify


class _Message(NamedTuple):
    priority: int
    text: bytes


@dataclass
class _Notice:
    """mq_notify's. signo: 0 for none."""

    owner: Process
    signo: int
    value: int


@dataclass(eq=False)
class MqInode(Inode):
    most: int = MESSAGES_MAX
    message_size: int = SIZE_MAX

    messages: list[_Message] = field(default_factory=list)
    receivers: list[_Sleeper] = field(default_factory=list)
    senders: list[_Sleeper] = field(default_factory=list)
    notice: _Notice | None = None

    @property
    def size(self) -> int:
        return 80  # FILENT_SIZE

    @property
    def charge(self) -> int:
        """What RLIMIT_MSGQUEUE counts."""
        return self.most * (self.message_size + _OVERHEAD)

    def add(self, message: _Message) -> None:
        at = sum(other.priority >= message.priority for other in self.messages)
        self.messages.insert(at, message)


@dataclass(eq=False)
class _Sleeper:
    """A call that waits. It keeps the file if its descriptor is closed meanwhile.

    message: what it sends, or what it was given. done: somebody else has finished its work.
    """

    task: Task
    file: MqFile
    message: _Message | None = None
    done: bool = False


class MqFile(OpenFile):
    @property
    def queue(self) -> MqInode:
        assert isinstance(self.inode, MqInode)
        return self.inode

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        notice = self.queue.notice
        owner, signo = (notice.owner.pid, notice.signo) if notice else (0, 0)
        notify = _SIGEV_NONE if notice and not signo else 0
        held = sum(len(message.text) for message in self.queue.messages)
        line = f"QSIZE:{held:<10} NOTIFY:{notify:<5} SIGNO:{signo:<5} NOTIFY_PID:{owner:<6}\n"
        return line.encode()[self.pos : self.pos + n]

    def ready(self, k: Kernel) -> int:
        queue = self.queue
        bits = READABLE if queue.messages else 0
        return bits | (WRITABLE if len(queue.messages) < queue.most else 0)

    def flushed(self, k: Kernel) -> None:
        """The notice ends when its owner closes a descriptor of the queue."""
        notice = self.queue.notice
        if notice is not None and notice.owner is k.current.process:
            self.queue.notice = None

    def released(self, k: Kernel) -> None:
        """A queue without a name ends with its last descriptor."""
        MQUEUES.of(k).close(self.queue)


class MqQueues:
    """by_name: those that can be opened. opened: how many open descriptions each has."""

    def __init__(self) -> None:
        self.by_name: dict[str, MqInode] = {}
        self.opened: dict[MqInode, int] = {}

    @property
    def alive(self) -> set[MqInode]:
        return {*self.by_name.values(), *self.opened}

    def close(self, queue: MqInode) -> None:
        self.opened[queue] -= 1
        if not self.opened[queue]:
            del self.opened[queue]


MQUEUES: Final = Slot(MqQueues)


def _name(k: Kernel, t: Task, addr: int) -> str:
    """Errno ENOENT, EACCES, ENAMETOOLONG."""
    name = usermem.get_cstr(k, t, addr).decode("utf-8", "surrogateescape")
    if not name:
        raise Errno("ENOENT")
    if "/" in name or name in (".", ".."):
        raise Errno("EACCES")
    if len(name) > NAME_MAX:
        raise Errno("ENAMETOOLONG")
    return name


def sys_mq_open(k: Kernel, t: Task, a: Args) -> int:
    """The descriptor is close-on-exec, whatever the flags say."""
    flags, mode = a[1] & 0xFFFF_FFFF, a[2]
    attributes = _ATTR.unpack(usermem.get(k, t, a[3], _ATTR.size)) if a[3] else None
    name, queues = _name(k, t, a[0]), MQUEUES.of(k)
    queue = queues.by_name.get(name)
    if queue is None:
        if not flags & O_CREAT:
            raise Errno("ENOENT")
        queue = _create(k, t, mode & ~t.fs.umask & 0o777, attributes)
    elif flags & O_CREAT and flags & O_EXCL:
        raise Errno("EEXIST")
    else:
        wanted = {O_RDONLY: READ, O_WRONLY: WRITE, O_RDWR: READ | WRITE}.get(flags & O_ACCMODE)
        if wanted is None:
            raise Errno("EINVAL")
        queue.permit(wanted)
    file = MqFile(queue, flags & (O_ACCMODE | O_NONBLOCK), f"/{name}")
    fd = t.files.add(t, file, cloexec=True)
    queues.by_name[name] = queue
    queues.opened[queue] = queues.opened.get(queue, 0) + 1
    return fd


def _create(k: Kernel, t: Task, mode: int, attributes: tuple[int, ...] | None) -> MqInode:
    """Errno EINVAL; ENOSPC; EMFILE beyond RLIMIT_MSGQUEUE."""
    _, most, size, _ = attributes or (0, MESSAGES_MAX, SIZE_MAX, 0)
    queues = MQUEUES.of(k)
    if len(queues.alive) >= QUEUES_MAX:
        raise Errno("ENOSPC")
    if not 0 < most <= MESSAGES_MAX or not 0 < size <= SIZE_MAX:
        raise Errno("EINVAL")
    queue = MqInode(k.sandbox.new_ino(), stat.S_IFREG | mode, dev=DEV_ANON)
    queue.most, queue.message_size = most, size
    queue.atime = queue.mtime = queue.ctime = realtime_ns(k)
    if queue.charge + sum(other.charge for other in queues.alive) > t.rlimit("MSGQUEUE"):
        raise Errno("EMFILE")
    return queue


def sys_mq_unlink(k: Kernel, t: Task, a: Args) -> int:
    if MQUEUES.of(k).by_name.pop(_name(k, t, a[0]), None) is None:
        raise Errno("ENOENT")
    return 0


def _file(t: Task, fd: int) -> MqFile:
    file = t.files.get(fd)
    if not isinstance(file, MqFile):
        raise Errno("EBADF")
    return file


def _set_deadline(k: Kernel, t: Task, addr: int) -> None:
    """addr: of an absolute time on CLOCK_REALTIME, or 0."""
    assert t.blocked is not None
    if addr:
        t.blocked.expires = get_timespec(k, t, addr) - (realtime_ns(k) - k.now_ns())


def _wait(k: Kernel, t: Task, sleepers: list[_Sleeper], sleeper: _Sleeper) -> Outcome:
    """Errno EAGAIN, ETIMEDOUT."""
    assert t.blocked is not None
    deadline = t.blocked.expires
    if sleeper.file.flags & O_NONBLOCK:
        raise Errno("EAGAIN")
    if t.blocked.woken == "signal":
        return RESTART
    if deadline is not None and deadline <= k.now_ns():
        raise Errno("ETIMEDOUT")
    t.blocked.state = sleeper
    sleepers.append(sleeper)
    return Wait("mqueue", None, deadline)


def _next(k: Kernel, sleepers: list[_Sleeper]) -> _Sleeper | None:
    """Wake the call that has waited longest: its work is done for it."""
    while sleepers:
        sleeper = sleepers.pop(0)
        if asleep(sleeper.task, sleeper):
            sleeper.done = True
            k.wake(sleeper.task)
            return sleeper
    return None


def _resumed(t: Task, sleepers: Callable[[MqInode], list[_Sleeper]]) -> _Sleeper | None:
    """The call's own sleeper, taken off its queue; None on the first try."""
    assert t.blocked is not None
    sleeper = t.blocked.state
    if not isinstance(sleeper, _Sleeper):
        return None
    queue = sleepers(sleeper.file.queue)
    if sleeper in queue:
        queue.remove(sleeper)
    return sleeper


def sys_mq_timedsend(k: Kernel, t: Task, a: Args) -> Outcome:
    priority = a[3] & 0xFFFF_FFFF
    sleeper = _resumed(t, lambda queue: queue.senders)
    if sleeper is None:
        _set_deadline(k, t, a[4])
        if priority >= _PRIORITIES:
            raise Errno("EINVAL")
        sleeper = _Sleeper(t, _file(t, a[0]))
        if not sleeper.file.writable:
            raise Errno("EBADF")
        if a[2] > sleeper.file.queue.message_size:
            raise Errno("EMSGSIZE")
        sleeper.message = _Message(priority, usermem.get(k, t, a[1], a[2]))
    if sleeper.done:
        return 0
    file, queue, message = sleeper.file, sleeper.file.queue, sleeper.message
    assert message is not None
    if len(queue.messages) >= queue.most:
        return _wait(k, t, queue.senders, sleeper)
    queue.changed(realtime_ns(k), contents=True)
    if (receiver := _next(k, queue.receivers)) is not None:
        receiver.message = message
        return 0
    queue.add(message)
    if len(queue.messages) == 1:
        _notify(k, t, queue)
    file.notify(k)
    return 0


def _notify(k: Kernel, t: Task, queue: MqInode) -> None:
    """A message came into an empty queue: who asked for a notice gets one, once."""
    notice, queue.notice = queue.notice, None
    if notice is not None and notice.signo:
        info = Siginfo(notice.signo, SI_MESGQ, sender=t.pid, value=notice.value)
        signals.queue(k, notice.owner, info)


def sys_mq_timedreceive(k: Kernel, t: Task, a: Args) -> Outcome:
    sleeper = _resumed(t, lambda queue: queue.receivers)
    if sleeper is None:
        _set_deadline(k, t, a[4])
        sleeper = _Sleeper(t, _file(t, a[0]))
        if not sleeper.file.readable:
            raise Errno("EBADF")
        if a[2] < sleeper.file.queue.message_size:
            raise Errno("EMSGSIZE")
    if sleeper.done:
        assert sleeper.message is not None
        return _store(k, t, a, sleeper.message)
    queue = sleeper.file.queue
    if not queue.messages:
        return _wait(k, t, queue.receivers, sleeper)
    message = queue.messages.pop(0)
    queue.changed(realtime_ns(k), contents=True)
    if (sender := _next(k, queue.senders)) is not None:
        assert sender.message is not None
        queue.add(sender.message)
    sleeper.file.notify(k)
    return _store(k, t, a, message)


def _store(k: Kernel, t: Task, a: Args, message: _Message) -> int:
    if a[3]:
        usermem.put_u32(k, t, a[3], message.priority)
    usermem.put(k, t, a[1], message.text)
    return len(message.text)


def sys_mq_notify(k: Kernel, t: Task, a: Args) -> int:
    signo = value = 0
    if a[1]:
        value, signo, how = _SIGEVENT.unpack(usermem.get(k, t, a[1], _SIGEVENT.size))
        if how not in (_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD):
            raise Errno("EINVAL")
        if how == _SIGEV_SIGNAL and not 0 <= signo <= NSIG:
            raise Errno("EINVAL")
        if how == _SIGEV_THREAD:
            k.limit("mq_notify", "no SIGEV_THREAD")  # it needs a netlink socket
            raise Errno("EBADF")
        signo *= how == _SIGEV_SIGNAL
    queue = _file(t, a[0]).queue
    if not a[1]:
        if queue.notice is not None and queue.notice.owner is t.process:
            queue.notice = None
    elif queue.notice is not None:
        raise Errno("EBUSY")
    else:
        queue.notice = _Notice(t.process, signo, value)
    return 0


def sys_mq_getsetattr(k: Kernel, t: Task, a: Args) -> int:
    new = _ATTR.unpack(usermem.get(k, t, a[1], _ATTR.size))[0] if a[1] else None
    if new is not None and new & ~O_NONBLOCK:
        raise Errno("EINVAL")
    file = _file(t, a[0])
    queue = file.queue
    old = (file.flags & O_NONBLOCK, queue.most, queue.message_size, len(queue.messages))
    if new is not None:
        file.flags = file.flags & ~O_NONBLOCK | new
    if a[2]:
        usermem.put(k, t, a[2], _ATTR.pack(*old))
    return 0


CALLS: Final = (
    Call("mq_open", sys_mq_open),
    Call("mq_unlink", sys_mq_unlink),
    Call("mq_timedsend", sys_mq_timedsend),
    Call("mq_timedreceive", sys_mq_timedreceive),
    Call("mq_notify", sys_mq_notify, why="no SIGEV_THREAD"),
    Call("mq_getsetattr", sys_mq_getsetattr),
)
