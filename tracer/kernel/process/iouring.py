"""io_uring, as far as its worker: a thread of the kernel in the process that made the ring.

The worker is cloned from its creator with the recorded shadow stack; from v7 on it unmaps that at
its exit (SC8). Requests are not modelled, nor rings that are mapped: only IORING_SETUP_SQPOLL with
IORING_SETUP_NO_MMAP, which has a worker from the start.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    IORING_SETUP_NO_MMAP,
    IORING_SETUP_SQPOLL,
    O_RDWR,
    PAGE,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.eventfds import anonymous
from shstk.tracer.kernel.fs.files import WRITABLE, OpenFile
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import clone
from shstk.tracer.kernel.process import exit as exits
from shstk.tracer.kernel.task import Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.inode import Inode
    from shstk.tracer.kernel.kernel import Kernel

_ENTRIES_MAX: Final = 32768
# struct io_uring_params: sq_entries, cq_entries, flags, three of the thread, features, three
# reserved; the offsets of the two rings, each followed by the address of its memory.
_PARAMS: Final = struct.Struct("<10I8IQ8IQ")
_FEATURES: Final = 0  # none of what a program could ask for is there
# In struct io_rings, with cache lines of 64 bytes: head, tail, ring_mask, ring_entries, flags and
# dropped of one; head, tail, ring_mask, ring_entries, overflow, cqes and flags of the other.
_SQ_OFFSETS: Final = (0, 64, 256, 264, 276, 272)
_CQ_OFFSETS: Final = (128, 192, 260, 268, 284, 320, 280)
_CQES, _CQE, _SQE = 320, 16, 64
_RINGS: Final = struct.Struct("<6I")  # at 256: the masks, the entries, dropped, flags
_NEED_WAKEUP: Final = 1


class Ring(OpenFile):
    def __init__(self, inode: Inode, worker: Task) -> None:
        super().__init__(inode, O_RDWR, "anon_inode:[io_uring]")
        self.worker = worker

    def ready(self, k: Kernel) -> int:
        return WRITABLE

    def released(self, k: Kernel) -> None:
        """io_sq_thread_finish()."""
        exits.do_exit(k, self.worker, 0)


def sys_io_uring_setup(k: Kernel, t: Task, a: Args) -> int:
    """Errno ENOSYS, as without CONFIG_IO_URING, for rings that are not modelled."""
    count = a[0] & 0xFFFF_FFFF
    params = _PARAMS.unpack(usermem.get(k, t, a[1], _PARAMS.size))
    flags, sqes, rings = params[2], params[18], params[27]
    if flags != IORING_SETUP_SQPOLL | IORING_SETUP_NO_MMAP:
        k.limit("io_uring_setup", "SQPOLL with NO_MMAP only")
        raise Errno("ENOSYS")
    if any(params[7:10]) or not 0 < count <= _ENTRIES_MAX or sqes % PAGE or rings % PAGE:
        raise Errno("EINVAL")
    entries = 1 << (count - 1).bit_length()
    array = _CQES + 2 * entries * _CQE
    for addr, size in ((sqes, entries * _SQE), (rings, array + 4 * entries)):
        usermem.get(k, t, addr, size)
    head = _RINGS.pack(entries - 1, 2 * entries - 1, entries, 2 * entries, 0, _NEED_WAKEUP)
    usermem.put(k, t, rings + 256, head)
    told = (entries, 2 * entries, flags, params[3], params[4], _FEATURES, params[6], 0, 0, 0)
    offsets = (*_SQ_OFFSETS, array, 0, sqes, *_CQ_OFFSETS, 0, rings)
    usermem.put(k, t, a[1], _PARAMS.pack(*told, *offsets))
    t.files.unused(t)
    worker = clone.io_thread(k, t, f"iou-sqp-{t.tid}")
    return t.files.add(t, Ring(anonymous(k), worker), cloexec=True)


def _ring(t: Task, fd: int) -> Ring:
    file = t.files.get(fd)
    if not isinstance(file, Ring):
        raise Errno("EOPNOTSUPP")
    return file


def sys_io_uring_enter(k: Kernel, t: Task, a: Args) -> int:
    _ring(t, a[0])
    if a[1] & 0xFFFF_FFFF:
        k.limit("io_uring_enter", "no requests")
        raise Errno("EINVAL")
    return 0


def sys_io_uring_register(k: Kernel, t: Task, a: Args) -> int:
    _ring(t, a[0])
    k.limit("io_uring_register", "nothing can be registered")
    raise Errno("EINVAL")


CALLS: Final = (
    Call(
        "io_uring_setup", sys_io_uring_setup, "simple", "SQPOLL with NO_MMAP only, for its worker"
    ),
    Call("io_uring_enter", sys_io_uring_enter, "simple", "no requests"),
    Call("io_uring_register", sys_io_uring_register, "simple", "nothing can be registered"),
)
