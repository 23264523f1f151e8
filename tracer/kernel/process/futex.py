"""futex: wait, wake and requeue, and the robust list of an exiting task (kernel/futex)."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    FUTEX_CLOCK_REALTIME,
    FUTEX_CMP_REQUEUE,
    FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI,
    FUTEX_LOCK_PI2,
    FUTEX_PRIVATE_FLAG,
    FUTEX_REQUEUE,
    FUTEX_TRYLOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_WAIT,
    FUTEX_WAIT_BITSET,
    FUTEX_WAIT_REQUEUE_PI,
    FUTEX_WAKE,
    FUTEX_WAKE_BITSET,
    FUTEX_WAKE_OP,
    PAGE,
    PROT_WRITE,
)
from shstk.tracer.kernel.call import (
    RESTART,
    RESTART_BLOCK,
    Args,
    Call,
    Interruption,
    Outcome,
    Wait,
    i32,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import ptrace
from shstk.tracer.kernel.time.clock import get_timespec, realtime_ns

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_ANY: Final = 0xFFFF_FFFF
_PI: Final = (
    FUTEX_LOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_TRYLOCK_PI,
    FUTEX_WAIT_REQUEUE_PI,
    FUTEX_CMP_REQUEUE_PI,
    FUTEX_LOCK_PI2,
)

_WAITV_MAX: Final = 128
_WAITV: Final = struct.Struct("<QQII")  # struct futex_waitv: val, uaddr, flags, __reserved
_FUTEX2: Final = "32-bit futexes without FUTEX2_NUMA and FUTEX2_MPOL"
_FUTEX2_SIZE_U32: Final = 2
_FUTEX2_PRIVATE: Final = 128

_WAITERS: Final = 0x8000_0000
_OWNER_DIED: Final = 0x4000_0000
_TID_MASK: Final = 0x3FFF_FFFF
_ROBUST_LIMIT: Final = 2048
_ROBUST_HEAD: Final = 24  # bytes of struct robust_list_head

# FUTEX_OP_SET, ADD, OR, ANDN, XOR.
_OPS: Final[tuple[Callable[[int, int], int], ...]] = (
    lambda old, arg: arg,
    lambda old, arg: old + arg,
    lambda old, arg: old | arg,
    lambda old, arg: old & ~arg,
    lambda old, arg: old ^ arg,
)
# FUTEX_OP_CMP_EQ, NE, LT, LE, GT, GE.
_COMPARISONS: Final[tuple[Callable[[int, int], bool], ...]] = (
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
)


@dataclass
class _Waiter:
    """A task blocked on futexes (struct futex_q). keys, woken: of futex_waitv: where it sleeps,
    and where it was woken."""

    bitset: int
    keys: list[Hashable] = field(default_factory=list)
    woken: Hashable | None = None


def key_of(t: Task, addr: int, private: bool = False) -> Hashable:
    """get_futex_key(): with FUTEX_PRIVATE_FLAG the address itself, mapped or not. Otherwise the
    page must be there: (object, offset) in shared memory, (mm, address) in other memory. The two
    kinds never meet.

    Errno EINVAL; EFAULT, also for private memory that can't be written to."""
    if addr % 4:
        raise Errno("EINVAL")
    assert t.mm is not None
    if not usermem.access_ok(addr, 4):
        raise Errno("EFAULT")
    if private:
        return ("futex", "private", t.mm.id, addr)
    vma = t.mm.vmas.find(addr)
    if vma is None or t.space.read(addr, 1) is None:
        raise Errno("EFAULT")
    if vma.shared and vma.file is not None:
        return ("futex", "shared", vma.file.inode, vma.offset + addr - vma.start)
    unwritable = not vma.prot & PROT_WRITE
    if vma.shadow_stack:  # only gup_fast finds its page, which must be there already
        unwritable = not t.space.resident(addr & -PAGE, PAGE)
    if vma.file is None and unwritable:
        raise Errno("EFAULT")
    return ("futex", "anonymous", t.mm.id, addr)


def wake(k: Kernel, t: Task, addr: int, n: int) -> int:
    """FUTEX_WAKE from within the kernel: not private, and without errors. Returns how many."""
    try:
        key = key_of(t, addr)
    except Errno:
        return 0
    return _wake(k, key, n)


def _wake(k: Kernel, key: Hashable, n: int, bitset: int = _ANY) -> int:
    woken = 0
    for task in k.waiting(key):
        if woken >= n:
            break
        assert task.blocked is not None
        assert isinstance(task.blocked.state, _Waiter)
        if task.blocked.state.bitset & bitset:
            task.blocked.state.woken = key
            k.wake(task)
            woken += 1
    return woken


def _wait(
    k: Kernel, t: Task, addr: int, private: bool, value: int, bitset: int, deadline_ns: int | None
) -> Outcome:
    blocked = t.blocked
    assert blocked is not None
    if blocked.woken == "key":
        return 0
    if blocked.woken == "deadline":
        raise Errno("ETIMEDOUT")
    if blocked.woken == "signal":
        return RESTART if blocked.expires is None else RESTART_BLOCK
    if not bitset:
        raise Errno("EINVAL")
    key = key_of(t, addr, private)
    if usermem.get_u32(k, t, addr) != value:
        raise Errno("EAGAIN")
    blocked.state, blocked.expires = _Waiter(bitset), deadline_ns
    return Wait("futex", key, deadline_ns)


def _deadline(k: Kernel, t: Task, pointer: int, op: int, realtime: bool) -> int | None:
    """The deadline on the virtual clock. WAIT's timeout is relative, WAIT_BITSET's absolute."""
    assert t.blocked is not None
    if t.blocked.woken is not None:
        return t.blocked.expires
    if not pointer:
        return None
    seconds, nanoseconds = struct.unpack("<qq", usermem.get(k, t, pointer, 16))
    if seconds < 0 or not 0 <= nanoseconds < 10**9:
        raise Errno("EINVAL")
    at: int = seconds * 10**9 + nanoseconds
    if op == FUTEX_WAIT:
        return k.now_ns() + at
    return at - (realtime_ns(k) - k.now_ns()) if realtime else at


def _requeue(k: Kernel, t: Task, a: Args, private: bool, expected: int | None) -> int:
    """Wake as many waiters as the third argument says, and move up to as many others as the fourth
    does. Returns how many of both. Errno EAGAIN: the word is not `expected`."""
    addr, to, n_wake, n_move = a[0], a[4], i32(a[2]), i32(a[3])
    if n_wake < 0 or n_move < 0:
        raise Errno("EINVAL")
    source, target = key_of(t, addr, private), key_of(t, to, private)
    if expected is not None and usermem.get_u32(k, t, addr) != expected:
        raise Errno("EAGAIN")
    return _move(k, source, target, n_wake, n_move)


def _move(k: Kernel, source: Hashable, target: Hashable, n_wake: int, n_move: int) -> int:
    woken = _wake(k, source, n_wake)
    moved = k.waiting(source)[:n_move]
    for task in moved:
        k.requeue(task, source, target)
        assert task.blocked is not None
        assert isinstance(task.blocked.state, _Waiter)
        waiter = task.blocked.state
        waiter.keys = [target if key == source else key for key in waiter.keys]
    return woken + len(moved)


def _wake_op(k: Kernel, t: Task, a: Args, private: bool) -> int:
    """FUTEX_WAKE_OP: modify *uaddr2, wake on uaddr, and on uaddr2 if its old value compares."""
    addr, _, n_wake, n_wake2, to, encoded = a
    source, target = key_of(t, addr, private), key_of(t, to, private)
    op, cmp = encoded >> 28 & 0xF, encoded >> 24 & 0xF
    arg, cmp_arg = _sign12(encoded >> 12), _sign12(encoded)
    if op & 8:
        arg, op = 1 << (arg & 31), op & 7
    if op >= len(_OPS) or cmp >= len(_COMPARISONS):
        raise Errno("ENOSYS")
    old = usermem.get_u32(k, t, to)
    usermem.put_u32(k, t, to, _OPS[op](old, arg))
    woken = _wake(k, source, n_wake & 0x7FFF_FFFF)
    if _COMPARISONS[cmp](i32(old), cmp_arg):
        woken += _wake(k, target, n_wake2 & 0x7FFF_FFFF)
    return woken


def _sign12(value: int) -> int:
    return (value & 0xFFF ^ 0x800) - 0x800


def sys_futex(k: Kernel, t: Task, a: Args) -> Outcome:
    """do_futex(). CLOCK_REALTIME is for WAIT_BITSET only."""
    full_op, last = a[1], a[5] & 0xFFFF_FFFF
    op, private = full_op & 0x7F, bool(full_op & FUTEX_PRIVATE_FLAG)
    waits = op in (FUTEX_WAIT, FUTEX_WAIT_BITSET)
    realtime = bool(full_op & FUTEX_CLOCK_REALTIME)
    deadline = _deadline(k, t, a[3], op, realtime) if waits else None
    if op in _PI or (realtime and op != FUTEX_WAIT_BITSET):
        if op in _PI:
            k.limit("futex", "no priority inheritance")
        raise Errno("ENOSYS")
    bitset = last if op in (FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET) else _ANY
    if waits:
        outcome = _wait(k, t, a[0], private, a[2] & 0xFFFF_FFFF, bitset, deadline)
        if outcome is RESTART_BLOCK:
            t.interruption = Interruption(sys_futex, a, deadline)
        return outcome
    if op in (FUTEX_WAKE, FUTEX_WAKE_BITSET):
        if not bitset:
            raise Errno("EINVAL")
        return _wake(k, key_of(t, a[0], private), max(i32(a[2]), 1), bitset)
    if op in (FUTEX_REQUEUE, FUTEX_CMP_REQUEUE):
        return _requeue(k, t, a, private, last if op == FUTEX_CMP_REQUEUE else None)
    if op == FUTEX_WAKE_OP:
        return _wake_op(k, t, a, private)
    raise Errno("ENOSYS")


def _check_futex2(flags: int) -> None:
    """FUTEX2_*: 32 bits, private or not. Errno EINVAL."""
    if flags & 0xFFFF_FFFF & ~_FUTEX2_PRIVATE != _FUTEX2_SIZE_U32:
        raise Errno("EINVAL")


def _futex2_deadline(k: Kernel, t: Task, timeout: int, clock: int) -> int | None:
    """Of an absolute time."""
    if not timeout:
        return None
    if clock not in (CLOCK_REALTIME, CLOCK_MONOTONIC):
        raise Errno("EINVAL")
    offset = realtime_ns(k) - k.now_ns() if clock == CLOCK_REALTIME else 0
    return get_timespec(k, t, timeout) - offset


def sys_futex_wake(k: Kernel, t: Task, a: Args) -> Outcome:
    addr, bitset, count, flags, *_ = a
    _check_futex2(flags)
    if not bitset or bitset >> 32:
        raise Errno("EINVAL")
    return _wake(k, key_of(t, addr, bool(flags & _FUTEX2_PRIVATE)), i32(count), bitset)


def sys_futex_wait(k: Kernel, t: Task, a: Args) -> Outcome:
    addr, value, bitset, flags, timeout, clock = a
    assert t.blocked is not None
    private, deadline = bool(flags & _FUTEX2_PRIVATE), t.blocked.expires
    if t.blocked.woken is None:
        _check_futex2(flags)
        if value >> 32 or bitset >> 32:
            raise Errno("EINVAL")
        deadline = _futex2_deadline(k, t, timeout, clock)
    outcome = _wait(k, t, addr, private, value, bitset, deadline)
    return RESTART if outcome is RESTART_BLOCK else outcome  # its timeout is absolute


def sys_futex_requeue(k: Kernel, t: Task, a: Args) -> Outcome:
    """Two struct futex_waitv: from where, if it has the value, and to where."""
    addr, flags, n_wake, n_move, *_ = a
    if flags & 0xFFFF_FFFF or not addr:
        raise Errno("EINVAL")
    entries = list(_WAITV.iter_unpack(usermem.get(k, t, addr, 2 * _WAITV.size)))
    for value, _, how, reserved in entries:
        _check_futex2(how)
        if reserved or value >> 32:
            raise Errno("EINVAL")
    if i32(n_wake) < 0 or i32(n_move) < 0:
        raise Errno("EINVAL")
    source, target = (key_of(t, at, bool(how & _FUTEX2_PRIVATE)) for _, at, how, _ in entries)
    if usermem.get_u32(k, t, entries[0][1]) != entries[0][0]:
        raise Errno("EAGAIN")
    return _move(k, source, target, i32(n_wake), i32(n_move))


def sys_futex_waitv(k: Kernel, t: Task, a: Args) -> Outcome:
    """Sleep on up to 128 futexes; returns the index of one that was woken."""
    addr, count, flags, timeout, clock, _ = a
    assert t.blocked is not None
    waiter = t.blocked.state
    if isinstance(waiter, _Waiter):
        if waiter.woken is not None:
            return len(waiter.keys) - 1 - waiter.keys[::-1].index(waiter.woken)
        if t.blocked.woken == "deadline":
            raise Errno("ETIMEDOUT")
        return RESTART
    count &= 0xFFFF_FFFF
    if flags & 0xFFFF_FFFF or not 0 < count <= _WAITV_MAX or not addr:
        raise Errno("EINVAL")
    deadline = _futex2_deadline(k, t, timeout, clock)
    entries = list(_WAITV.iter_unpack(usermem.get(k, t, addr, _WAITV.size * count)))
    for value, _, how, reserved in entries:
        _check_futex2(how)
        if reserved or value >> 32:
            raise Errno("EINVAL")
    keys = [key_of(t, at, bool(how & _FUTEX2_PRIVATE)) for _, at, how, _ in entries]
    for value, at, _, _ in entries:
        if usermem.get_u32(k, t, at) != value:
            raise Errno("EAGAIN")
    t.blocked.state = _Waiter(_ANY, keys)
    return Wait("futex_waitv", None, deadline, also=tuple(keys))


# Robust lists.


def exit_robust_list(k: Kernel, t: Task) -> None:
    """Mark each lock that the task still holds, and wake one waiter for each."""
    head, t.robust_list = t.robust_list, 0
    if not head:
        return
    try:
        entry, offset, pending = struct.unpack("<QqQ", usermem.get(k, t, head, _ROBUST_HEAD))
        for _ in range(_ROBUST_LIMIT):
            if entry & ~1 == head:
                break
            following = usermem.get_u64(k, t, entry & ~1)
            if entry != pending:
                _owner_died(k, t, (entry & ~1) + offset, is_pi=bool(entry & 1))
            entry = following
        if pending:
            _owner_died(k, t, (pending & ~1) + offset, is_pi=bool(pending & 1), pending=True)
    except Errno:
        pass  # as in the kernel, a fault ends the walk


def _owner_died(k: Kernel, t: Task, addr: int, is_pi: bool, pending: bool = False) -> None:
    """handle_futex_death. Errno: EFAULT, EINVAL."""
    addr &= 2**64 - 1
    key = key_of(t, addr)
    word = usermem.get_u32(k, t, addr)
    if pending and not is_pi and not word:
        _wake(k, key, 1)  # it died between unlocking and waking
    elif word & _TID_MASK == t.tid:
        usermem.put_u32(k, t, addr, word & _WAITERS | _OWNER_DIED)
        if word & _WAITERS and not is_pi:
            _wake(k, key, 1)


def sys_set_robust_list(k: Kernel, t: Task, a: Args) -> int:
    if a[1] != _ROBUST_HEAD:
        raise Errno("EINVAL")
    t.robust_list = a[0]
    return 0


def sys_get_robust_list(k: Kernel, t: Task, a: Args) -> int:
    other = k.find(a[0] & 0xFFFF_FFFF) if a[0] else t
    if other is None:
        raise Errno("ESRCH")
    if not ptrace.may_access(t, other):
        raise Errno("EPERM")
    usermem.put_u64(k, t, a[2], _ROBUST_HEAD)
    usermem.put_u64(k, t, a[1], other.robust_list)
    return 0


CALLS = (
    Call("futex", sys_futex, why="no priority inheritance"),
    Call("futex_waitv", sys_futex_waitv, why=_FUTEX2),
    Call("futex_wake", sys_futex_wake, why=_FUTEX2),
    Call("futex_wait", sys_futex_wait, why=_FUTEX2),
    Call("futex_requeue", sys_futex_requeue, why=_FUTEX2),
    Call("set_robust_list", sys_set_robust_list),
    Call("get_robust_list", sys_get_robust_list),
)
