"""Asynchronous I/O of old (fs/aio.c): io_setup to io_pgetevents.

As in Linux for files that are not opened with O_DIRECT, io_submit itself does the work, and its
results wait to be fetched. The ring that is mapped has no magic number, so libaio fetches them by
io_getevents.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import MAP_ANONYMOUS, MAP_PRIVATE, PAGE, PROT_READ, PROT_WRITE
from shstk.tracer.kernel.call import RESTART_NO_HAND, Args, Call, End, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import transfer
from shstk.tracer.kernel.fs.eventfds import EventFd
from shstk.tracer.kernel.fs.poll import interrupted, swap_mask
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.time.clock import timeout_at

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

REQUESTS_MAX: Final = 65536  # fs.aio-max-nr
_HEAD, _EVENT = 32, struct.Struct("<QQqq")  # struct aio_ring; io_event: data, obj, res, res2
# struct iocb: data, key, rw_flags, opcode, reqprio, fildes, buf, nbytes, offset, reserved2, flags,
# resfd.
_IOCB: Final = struct.Struct("<QIIHhIQQqQII")
_KEY_AT: Final = 8
_RESFD: Final = 1
_PREAD, _PWRITE, _FSYNC, _FDSYNC, _POLL, _PREADV, _PWRITEV = 0, 1, 2, 3, 5, 7, 8


@dataclass(eq=False)
class Context:
    addr: int  # of its ring, which is its id
    size: int
    most: int
    events: list[bytes] = field(default_factory=list)


class Contexts:
    """By the id of the mm and the address."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], Context] = {}


CONTEXTS: Final = Slot(Contexts)


@dataclass
class _Submitting:
    """io_submit's progress: requests that are done, and the state of one that waits."""

    done: int = 0
    inner: object = None


def _context(k: Kernel, t: Task, addr: int) -> Context:
    assert t.mm is not None
    found = CONTEXTS.of(k).known.get((t.mm.id, addr))
    if found is None:
        raise Errno("EINVAL")
    return found


def sys_io_setup(k: Kernel, t: Task, a: Args) -> int:
    count = a[0] & 0xFFFF_FFFF
    assert t.mm is not None
    if usermem.get_u64(k, t, a[1]) or not count or count > 0x1000_0000:
        raise Errno("EINVAL")
    contexts = CONTEXTS.of(k).known
    used = sum(context.most for (mm, _), context in contexts.items() if mm in k.mms)
    if count + used > REQUESTS_MAX:
        raise Errno("EAGAIN")
    size = -(-(_HEAD + count * _EVENT.size) // PAGE) * PAGE
    prot, flags = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    addr = t.mm.map(k, 0, size, prot, flags, name="/[aio] (deleted)")
    contexts[t.mm.id, addr] = Context(addr, size, count)
    try:
        usermem.put_u64(k, t, a[1], addr)
    except Errno:
        _destroy(k, t, contexts[t.mm.id, addr])
        raise
    return 0


def _destroy(k: Kernel, t: Task, context: Context) -> None:
    assert t.mm is not None
    del CONTEXTS.of(k).known[t.mm.id, context.addr]
    t.mm.unmap(k, context.addr, context.size)
    k.wake_key(("aio", context))


def sys_io_destroy(k: Kernel, t: Task, a: Args) -> int:
    _destroy(k, t, _context(k, t, a[0]))
    return 0


def sys_io_submit(k: Kernel, t: Task, a: Args) -> Outcome:
    """The number of requests that were taken; an error only if the first was not."""
    context, count = _context(k, t, a[0]), a[1]
    assert t.blocked is not None
    if count >> 63:
        raise Errno("EINVAL")
    so_far = t.blocked.state
    if not isinstance(so_far, _Submitting):
        so_far = _Submitting()
    while so_far.done < count:
        t.blocked.state = so_far.inner
        try:
            waits = _submit_one(k, t, context, usermem.get_u64(k, t, a[2] + 8 * so_far.done))
        except Errno:
            if so_far.done:
                break
            raise
        if waits is not None:
            so_far.inner, t.blocked.state = t.blocked.state, so_far
            return waits
        so_far.done, so_far.inner = so_far.done + 1, None
    return so_far.done


def _submit_one(k: Kernel, t: Task, context: Context, addr: int) -> Wait | End | None:
    """Do a request and queue its result; returns what it has to wait for."""
    fields = _IOCB.unpack(usermem.get(k, t, addr, _IOCB.size))
    data, _, rw_flags, opcode, _, fd, buf, length, offset, reserved, flags, result_fd = fields
    if reserved or length >> 63:
        raise Errno("EINVAL")
    if len(context.events) >= context.most:
        raise Errno("EAGAIN")
    file = t.files.get(fd)
    told = t.files.get(result_fd) if flags & _RESFD else None
    if told is not None and not isinstance(told, EventFd):
        raise Errno("EINVAL")
    usermem.put_u32(k, t, addr + _KEY_AT, 0)
    if opcode == _POLL:
        k.limit("io_submit", "no IOCB_CMD_POLL")
    if opcode in (_FSYNC, _FDSYNC):
        if buf or length or offset or rw_flags:
            raise Errno("EINVAL")
        result: Outcome = 0
    elif opcode in _TRANSFERS:
        call, call_at, writes = _TRANSFERS[opcode]
        if not (file.writable if writes else file.readable):
            raise Errno("EBADF")
        at = offset % 2**64
        try:
            if file.positioned:
                result = call_at(k, t, (fd, buf, length, at, 0, 0))
            else:
                result = call(k, t, (fd, buf, length, 0, 0, 0))
        except Errno as error:
            result = -error.number
    else:
        raise Errno("EINVAL")
    if isinstance(result, Wait | End):
        return result
    context.events.append(_EVENT.pack(data, addr, result, 0))
    k.wake_key(("aio", context))
    if told is not None:
        told.write(k, t, (1).to_bytes(8, "little"))
    return None


Transfer = Callable[["Kernel", "Task", Args], Outcome]

_TRANSFERS: Final[dict[int, tuple[Transfer, Transfer, bool]]] = {
    _PREAD: (transfer.sys_read, transfer.sys_pread64, False),
    _PWRITE: (transfer.sys_write, transfer.sys_pwrite64, True),
    _PREADV: (transfer.sys_readv, transfer.sys_preadv, False),
    _PWRITEV: (transfer.sys_writev, transfer.sys_pwritev, True),
}


def sys_io_cancel(k: Kernel, t: Task, a: Args) -> int:
    """Nothing is ever under way that could be cancelled. Errno EFAULT, EINVAL."""
    usermem.get_u32(k, t, a[1] + _KEY_AT)
    _context(k, t, a[0])
    raise Errno("EINVAL")


def sys_io_getevents(k: Kernel, t: Task, a: Args) -> Outcome:
    addr, least, most, events, timeout, _ = a
    deadline = timeout_at(k, t, timeout)
    context = _context(k, t, addr)
    if most >> 63 or least > most:
        raise Errno("EINVAL")
    ready = context.events[:most]
    if len(ready) < least and (deadline is None or k.now_ns() < deadline):
        if not interrupted(t):
            return Wait("io_getevents", ("aio", context), deadline)
        if not ready:
            raise Errno("EINTR")
    usermem.put(k, t, events, b"".join(ready))
    del context.events[: len(ready)]
    return len(ready)


def sys_io_pgetevents(k: Kernel, t: Task, a: Args) -> Outcome:
    """a[5]: {address of the signal mask, its size}."""
    if a[5]:
        swap_mask(k, t, *struct.unpack("<QQ", usermem.get(k, t, a[5], 16)))
    try:
        return sys_io_getevents(k, t, a)
    except Errno as error:
        if error.name == "EINTR":
            return RESTART_NO_HAND
        raise


_DONE: Final = "nothing is under way once io_submit returns"

CALLS: Final = (
    Call("io_setup", sys_io_setup, why="the ring shows no events: io_getevents fetches them"),
    Call("io_destroy", sys_io_destroy),
    Call("io_submit", sys_io_submit, why=f"{_DONE}; no IOCB_CMD_POLL"),
    Call("io_cancel", sys_io_cancel, why=_DONE),
    Call("io_getevents", sys_io_getevents),
    Call("io_pgetevents", sys_io_pgetevents),
)
