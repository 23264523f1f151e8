"""Waiting for several descriptors: ppoll and pselect6."""

from __future__ import annotations

import struct
from collections.abc import Hashable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import SIGSET_SIZE
from shstk.tracer.kernel.call import RESTART_NO_HAND, Args, Call, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import (
    POLL_KEY,
    POLLERR,
    POLLHUP,
    POLLNVAL,
    POLLPRI,
    READABLE,
    WRITABLE,
)
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.time.clock import pack_timespec, timeout_at

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_FD_MAX: Final = 1 << 20
_STICKY_TIMEOUTS: Final = 0x400_0000  # of personality(2)
# The POLL* bits that select a descriptor in each of the three sets (POLLIN_SET and its kin).
_SETS: Final = (READABLE | POLLHUP | POLLERR, WRITABLE | POLLERR, POLLPRI)


def swap_mask(k: Kernel, t: Task, addr: int, size: int) -> None:
    """Set the signal mask for the call, on its first attempt; deliver_pending restores the old
    one."""
    assert t.blocked is not None
    if not addr or t.blocked.woken is not None:
        return
    if size != SIGSET_SIZE:
        raise Errno("EINVAL")
    mask = usermem.get_u64(k, t, addr)
    t.saved_sigmask = t.sigmask
    signals.set_mask(k, t, mask)


def wait_until(k: Kernel, deadline: int | None, key: Hashable = POLL_KEY) -> Wait | None:
    """Sleep on POLL_KEY until the readiness of any file changes, or on the key of an epoll; None
    once the deadline has passed."""
    if deadline is not None and k.now_ns() >= deadline:
        return None
    return Wait("poll", key, deadline)


def interrupted(t: Task) -> bool:
    return t.blocked is not None and t.blocked.woken == "signal"


def _finish(k: Kernel, t: Task, addr: int, deadline: int | None, outcome: Outcome) -> Outcome:
    """poll_select_finish(): store the remaining time, with which the call restarts after a signal.
    A call whose time can't be stored does not restart."""
    if not addr or deadline is None:
        return outcome
    if not t.personality & _STICKY_TIMEOUTS:
        try:
            usermem.put(k, t, addr, pack_timespec(max(0, deadline - k.now_ns())))
            return outcome
        except Errno:
            pass
    if outcome is RESTART_NO_HAND:
        raise Errno("EINTR")
    return outcome


def sys_ppoll(k: Kernel, t: Task, a: Args) -> Outcome:
    """struct pollfd: fd, events, revents."""
    addr, count = a[0], a[1] & 0xFFFF_FFFF
    deadline = timeout_at(k, t, a[2])
    swap_mask(k, t, a[3], a[4])
    if count > t.rlimit("NOFILE"):
        raise Errno("EINVAL")
    entries = list(struct.iter_unpack("<iHH", usermem.get(k, t, addr, 8 * count)))
    answers = [(fd, events, _revents(k, t, fd, events)) for fd, events, _ in entries]
    found = sum(revents != 0 for _, _, revents in answers)
    if not found and interrupted(t):
        return _finish(k, t, a[2], deadline, RESTART_NO_HAND)
    if not found and (wait := wait_until(k, deadline)):
        return wait
    usermem.put(k, t, addr, b"".join(struct.pack("<iHH", *row) for row in answers))
    return _finish(k, t, a[2], deadline, found)


def _revents(k: Kernel, t: Task, fd: int, events: int) -> int:
    if fd < 0:
        return 0
    file = t.files.slots.get(fd)
    return POLLNVAL if file is None else file.ready(k) & (events | POLLERR | POLLHUP)


def sys_pselect6(k: Kernel, t: Task, a: Args) -> Outcome:
    """a[5]: {address of the signal mask, its size}."""
    mask = struct.unpack("<QQ", usermem.get(k, t, a[5], 16)) if a[5] else (0, 0)
    deadline = timeout_at(k, t, a[4])
    swap_mask(k, t, *mask)
    count = a[0] & 0xFFFF_FFFF
    if count >> 31:
        raise Errno("EINVAL")
    count = min(count, max(t.files.slots, default=-1) + 1, _FD_MAX)
    size = -(-count // 64) * 8
    asked = [usermem.get(k, t, addr, size) if addr else bytes(size) for addr in a[1:4]]
    answers, found = _select(k, t, asked, count)
    if not found and interrupted(t):
        return _finish(k, t, a[4], deadline, RESTART_NO_HAND)
    if not found and (wait := wait_until(k, deadline)):
        return wait
    for addr, answer in zip(a[1:4], answers, strict=True):
        if addr:
            usermem.put(k, t, addr, answer)
    return _finish(k, t, a[4], deadline, found)


def _select(k: Kernel, t: Task, asked: list[bytes], count: int) -> tuple[list[bytes], int]:
    """The three resulting sets, and the number of bits set in them. Errno EBADF."""
    wanted = [int.from_bytes(bits, "little") & (1 << count) - 1 for bits in asked]
    answers = [0, 0, 0]
    for fd in range(count):
        if not any(bits >> fd & 1 for bits in wanted):
            continue
        ready = t.files.get(fd).ready(k)
        for i, bits in enumerate(_SETS):
            if wanted[i] >> fd & 1 and ready & bits:
                answers[i] |= 1 << fd
    found = sum(bits.bit_count() for bits in answers)
    return [bits.to_bytes(len(asked[0]), "little") for bits in answers], found


CALLS: Final = (
    Call("pselect6", sys_pselect6),
    Call("ppoll", sys_ppoll),
)
