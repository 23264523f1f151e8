"""System V message queues (ipc/msg.c)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    IPC_INFO,
    IPC_NOWAIT,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    MSG_COPY,
    MSG_EXCEPT,
    MSG_INFO,
    MSG_NOERROR,
    MSG_STAT,
    MSG_STAT_ANY,
)
from shstk.tracer.kernel.call import RESTART_NO_HAND, Args, Call, Outcome, Wait, i32, i64
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.ipc.ids import IPC_OBJECTS_MAX, READ, WRITE, Ids, Object, asleep, now
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

MESSAGE_MAX: Final = 8192  # MSGMAX
QUEUE_MAX: Final = 16384  # MSGMNB
_SEGMENT: Final = 16
# Of struct msqid64_ds, after the permissions: stime, rtime, ctime, cbytes, qnum, qbytes, lspid,
# lrpid.
_DS: Final = struct.Struct("<qqqQQQii16x")
_INFO: Final = struct.Struct("<7iH2x")  # struct msginfo


class Message(NamedTuple):
    kind: int
    text: bytes


@dataclass(eq=False)
class _Receiver:
    """A call that waits for a message. error, message: what it wakes with."""

    task: Task
    wanted: int
    flags: int
    room: int
    error: str | None = None
    message: Message | None = None


@dataclass(eq=False)
class _Sender:
    """A call that waits for room, with the message as it was when the call began."""

    queue: Queue
    message: Message


@dataclass(eq=False)
class Queue(Object):
    most: int = QUEUE_MAX  # bytes
    messages: list[Message] = field(default_factory=list)
    receivers: list[_Receiver] = field(default_factory=list)
    sent_at: int = 0  # s since 1970
    received_at: int = 0
    sender: int = 0  # pid
    receiver: int = 0

    @property
    def bytes(self) -> int:
        return sum(len(message.text) for message in self.messages)

    @property
    def room_key(self) -> tuple[str, int]:
        return ("msgsnd", self.number)

    def fits(self, message: Message) -> bool:
        return self.bytes + len(message.text) <= self.most and len(self.messages) < self.most


class Queues:
    def __init__(self) -> None:
        self.queues: Ids[Queue] = Ids()


QUEUES: Final = Slot(Queues)


def sys_msgget(k: Kernel, t: Task, a: Args) -> int:
    key, flags = i32(a[0]), a[1] & 0xFFFF_FFFF

    def make(number: int) -> Queue:
        return Queue(number, key, flags & 0o777, now(k))

    return QUEUES.of(k).queues.get(key, flags, lambda queue: None, make)


def _queue(k: Kernel, number: int) -> Queue:
    return QUEUES.of(k).queues.find(number)


# Sending.


def sys_msgsnd(k: Kernel, t: Task, a: Args) -> Outcome:
    assert t.blocked is not None
    sender = t.blocked.state
    if not isinstance(sender, _Sender):
        kind = i64(usermem.get_u64(k, t, a[1]))
        if a[2] > MESSAGE_MAX or a[0] & 0x8000_0000 or kind < 1:
            raise Errno("EINVAL")
        message = Message(kind, usermem.get(k, t, a[1] + 8, a[2]))
        sender = _Sender(_queue(k, a[0]), message)
    queue = sender.queue
    if queue.removed:
        raise Errno("EIDRM")
    queue.permit(WRITE)
    if not queue.fits(sender.message):
        if a[3] & IPC_NOWAIT:
            raise Errno("EAGAIN")
        if t.blocked.woken == "signal":
            return RESTART_NO_HAND
        t.blocked.state = sender
        return Wait("msgsnd", queue.room_key)
    queue.sender, queue.sent_at = t.pid, now(k)
    if not _hand_over(k, queue, sender.message):
        queue.messages.append(sender.message)
    return 0


def _hand_over(k: Kernel, queue: Queue, message: Message) -> bool:
    """pipelined_send(): to the receiver that has waited longest for such a message. One that has
    no room for it gets E2BIG."""
    for receiver in list(queue.receivers):
        if not asleep(receiver.task, receiver):
            queue.receivers.remove(receiver)
        elif _is_wanted(message, receiver.wanted, receiver.flags):
            queue.receivers.remove(receiver)
            k.wake(receiver.task)
            if len(message.text) <= receiver.room or receiver.flags & MSG_NOERROR:
                receiver.message = message
                queue.receiver, queue.received_at = receiver.task.pid, now(k)
                return True
            receiver.error = "E2BIG"
    return False


# Receiving.


def _is_wanted(message: Message, wanted: int, flags: int) -> bool:
    """convert_mode() and testmsg()."""
    if wanted < 0:
        return message.kind <= -wanted
    if wanted and flags & MSG_EXCEPT:
        return message.kind != wanted
    return wanted in (0, message.kind)


def _find(queue: Queue, wanted: int, flags: int) -> Message | None:
    """find_msg(): the first one; for a negative type, of the lowest type."""
    if flags & MSG_COPY:
        return queue.messages[wanted] if 0 <= wanted < len(queue.messages) else None
    found = [message for message in queue.messages if _is_wanted(message, wanted, flags)]
    if wanted < 0:
        return min(found, key=lambda message: message.kind, default=None)
    return next(iter(found), None)


def sys_msgrcv(k: Kernel, t: Task, a: Args) -> Outcome:
    number, addr, room, wanted, flags = a[0] & 0xFFFF_FFFF, a[1], a[2], i64(a[3]), a[4]
    assert t.blocked is not None
    receiver = t.blocked.state
    if isinstance(receiver, _Receiver):
        return _received(k, t, receiver, number, addr)
    if number >> 31 or room >> 63:
        raise Errno("EINVAL")
    if flags & MSG_COPY and (flags & MSG_EXCEPT or not flags & IPC_NOWAIT):
        raise Errno("EINVAL")
    queue = _queue(k, number)
    queue.permit(READ)
    message = _find(queue, wanted, flags)
    if message is None:
        if flags & IPC_NOWAIT:
            raise Errno("ENOMSG")
        t.blocked.state = _Receiver(t, wanted, flags, room)
        queue.receivers.append(t.blocked.state)
        return Wait("msgrcv")
    if len(message.text) > room and not flags & MSG_NOERROR:
        raise Errno("E2BIG")
    if not flags & MSG_COPY:
        queue.messages = [other for other in queue.messages if other is not message]
        queue.receiver, queue.received_at = t.pid, now(k)
        k.wake_key(queue.room_key)
    return _store(k, t, addr, message, room)


def _received(k: Kernel, t: Task, receiver: _Receiver, number: int, addr: int) -> Outcome:
    if receiver.error is not None:
        raise Errno(receiver.error)
    if receiver.message is None:
        _queue(k, number).receivers.remove(receiver)
        return RESTART_NO_HAND
    return _store(k, t, addr, receiver.message, receiver.room)


def _store(k: Kernel, t: Task, addr: int, message: Message, room: int) -> int:
    """A message that can't be stored is lost. Errno EFAULT."""
    text = message.text[:room]
    usermem.put(k, t, addr, message.kind.to_bytes(8, "little") + text)
    return len(text)


# msgctl.


def sys_msgctl(k: Kernel, t: Task, a: Args) -> int:
    number, command = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
    queues = QUEUES.of(k).queues
    if number >> 31:
        raise Errno("EINVAL")
    if command in (IPC_INFO, MSG_INFO):
        usermem.put(k, t, a[2], _limits(queues, command))
        return queues.highest
    if command not in _COMMANDS:
        raise Errno("EINVAL")
    return _COMMANDS[command](k, t, queues.find(number), a[2])


def _limits(queues: Ids[Queue], command: int) -> bytes:
    """struct msginfo: msgpool, msgmap, msgmax, msgmnb, msgmni, msgssz, msgtql, msgseg. MSG_INFO:
    msgpool, msgmap and msgtql are how many queues, messages and bytes there are."""
    known = list(queues.by_number.values())
    if command == MSG_INFO:
        messages = sum(len(queue.messages) for queue in known)
        counts = len(known), messages, sum(queue.bytes for queue in known)
    else:
        counts = IPC_OBJECTS_MAX * QUEUE_MAX // 1024, QUEUE_MAX, QUEUE_MAX
    pool, headers, texts = counts
    most = (MESSAGE_MAX, QUEUE_MAX, IPC_OBJECTS_MAX, _SEGMENT)
    return _INFO.pack(pool, headers, *most, texts, 0xFFFF)


def _stat_any(k: Kernel, t: Task, queue: Queue, addr: int) -> int:
    times = (queue.sent_at, queue.received_at, queue.changed_at)
    sizes = (queue.bytes, len(queue.messages), queue.most)
    data = queue.perm() + _DS.pack(*times, *sizes, queue.sender, queue.receiver)
    usermem.put(k, t, addr, data)
    return queue.number


def _stat_by_index(k: Kernel, t: Task, queue: Queue, addr: int) -> int:
    queue.permit(READ)
    return _stat_any(k, t, queue, addr)


def _stat(k: Kernel, t: Task, queue: Queue, addr: int) -> int:
    _stat_by_index(k, t, queue, addr)
    return 0


def _set(k: Kernel, t: Task, queue: Queue, addr: int) -> int:
    """Errno EPERM for more than MSGMNB bytes, which take CAP_SYS_RESOURCE."""
    perm = len(queue.perm())
    most = _DS.unpack(usermem.get(k, t, addr + perm, _DS.size))[5]
    if most > QUEUE_MAX:
        raise Errno("EPERM")
    queue.set_perm(k, t, addr)
    queue.most = most
    k.wake_key(queue.room_key)
    return 0


def _remove(k: Kernel, t: Task, queue: Queue, addr: int) -> int:
    QUEUES.of(k).queues.remove(queue)
    for receiver in queue.receivers:
        if asleep(receiver.task, receiver):
            receiver.error = "EIDRM"
            k.wake(receiver.task)
    k.wake_key(queue.room_key)
    return 0


_COMMANDS: Final[dict[int, Callable[[Kernel, Task, Queue, int], int]]] = {
    IPC_STAT: _stat,
    MSG_STAT: _stat_by_index,
    MSG_STAT_ANY: _stat_any,
    IPC_SET: _set,
    IPC_RMID: _remove,
}

CALLS: Final = (
    Call("msgget", sys_msgget),
    Call("msgctl", sys_msgctl),
    Call("msgrcv", sys_msgrcv),
    Call("msgsnd", sys_msgsnd),
)
