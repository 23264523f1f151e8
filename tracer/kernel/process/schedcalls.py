"""Scheduling calls, for one cpu and one policy. What a program sets is kept but has no effect.

Also getcpu, membarrier and ioprio.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    PRIO_PGRP,
    PRIO_PROCESS,
    PRIO_USER,
    SCHED_BATCH,
    SCHED_FIFO,
    SCHED_IDLE,
    SCHED_OTHER,
    SCHED_RR,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.task import Task
from shstk.tracer.kernel.time.clock import pack_timespec

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_ORDINARY: Final = (SCHED_OTHER, SCHED_BATCH, SCHED_IDLE)
_REAL_TIME: Final = (SCHED_FIFO, SCHED_RR)
_RESET_ON_FORK: Final = 0x4000_0000
_SLICE_NS: Final = 3_000_000
_CPU_MASK: Final = 32  # cpumask_size() of a kernel built for up to 256 cpus
_CPU_SET: Final = 8  # bytes of the smallest cpu set
_ATTR_SIZE: Final = 48  # struct sched_attr, first version
_MEMBARRIERS: Final = 0x7F  # all up to PRIVATE_EXPEDITED_SYNC_CORE, with their registrations


def _task(k: Kernel, t: Task, pid: int) -> Task:
    """The task of a pid; 0 is the caller. Errno: ESRCH."""
    task = k.tasks.get(pid & 0xFFFF_FFFF) if pid & 0xFFFF_FFFF else t
    if task is None:
        raise Errno("ESRCH")
    return task


def _check_policy(policy: int, priority: int) -> None:
    if policy in _REAL_TIME and 1 <= priority <= 99:
        raise Errno("EPERM")
    if policy not in _ORDINARY or priority:
        raise Errno("EINVAL")


def sys_sched_setparam(k: Kernel, t: Task, a: Args) -> int:
    _task(k, t, a[0])
    _check_policy(0, usermem.get_u32(k, t, a[1]))
    return 0


def sys_sched_setscheduler(k: Kernel, t: Task, a: Args) -> int:
    _task(k, t, a[0])
    _check_policy(a[1] & 0xFFFF_FFFF & ~_RESET_ON_FORK, usermem.get_u32(k, t, a[2]))
    return 0


def sys_sched_getscheduler(k: Kernel, t: Task, a: Args) -> int:
    _task(k, t, a[0])
    return 0


def sys_sched_getparam(k: Kernel, t: Task, a: Args) -> int:
    _task(k, t, a[0])
    usermem.put_u32(k, t, a[1], 0)
    return 0


def sys_sched_setaffinity(k: Kernel, t: Task, a: Args) -> int:
    _task(k, t, a[0])
    mask = usermem.get(k, t, a[2], min(a[1] & 0xFFFF_FFFF, _CPU_SET))
    if not mask or not mask[0] & 1:
        raise Errno("EINVAL")
    return 0


def sys_sched_getaffinity(k: Kernel, t: Task, a: Args) -> int:
    size = a[1] & 0xFFFF_FFFF
    if size < _CPU_SET or size % 8:
        raise Errno("EINVAL")
    _task(k, t, a[0])
    stored = min(size, _CPU_MASK)
    usermem.put(k, t, a[2], b"\1".ljust(stored, b"\0"))
    return stored


def sys_sched_yield(k: Kernel, t: Task, a: Args) -> int:
    k.sched.yield_cpu()
    return 0


def sys_sched_get_priority_max(k: Kernel, t: Task, a: Args) -> int:
    return _priority_bound(a[0] & 0xFFFF_FFFF, 99)


def sys_sched_get_priority_min(k: Kernel, t: Task, a: Args) -> int:
    return _priority_bound(a[0] & 0xFFFF_FFFF, 1)


def _priority_bound(policy: int, real_time: int) -> int:
    if policy in _REAL_TIME:
        return real_time
    if policy in (*_ORDINARY, 6):  # SCHED_DEADLINE
        return 0
    raise Errno("EINVAL")


def sys_sched_rr_get_interval(k: Kernel, t: Task, a: Args) -> int:
    _task(k, t, a[0])
    usermem.put(k, t, a[1], pack_timespec(_SLICE_NS))
    return 0


def sys_sched_setattr(k: Kernel, t: Task, a: Args) -> int:
    task = _task(k, t, a[0])
    size = usermem.get_u32(k, t, a[1])
    if a[2] & 0xFFFF_FFFF or 0 < size < _ATTR_SIZE:
        raise Errno("EINVAL")
    policy, _, nice, priority = struct.unpack("<IQiI", usermem.get(k, t, a[1] + 4, 20))
    _check_policy(policy, priority)
    _renice(task, nice)
    return 0


def sys_sched_getattr(k: Kernel, t: Task, a: Args) -> int:
    task = _task(k, t, a[0])
    if a[2] & 0xFFFF_FFFF < _ATTR_SIZE or a[3] & 0xFFFF_FFFF:
        raise Errno("EINVAL")
    usermem.put(k, t, a[1], struct.pack("<IIQiI3Q", _ATTR_SIZE, 0, 0, task.nice, 0, 0, 0, 0))
    return 0


def _renice(task: Task, nice: int) -> None:
    nice = max(-20, min(19, nice))
    if nice < task.nice:
        raise Errno("EACCES")
    task.nice = nice


def _named(k: Kernel, t: Task, which: int, who: int) -> list[Task]:
    """The tasks that `which` and `who` name. Errno: EINVAL, ESRCH."""
    which, who = which & 0xFFFF_FFFF, who & 0xFFFF_FFFF
    if which not in (PRIO_PROCESS, PRIO_PGRP, PRIO_USER):
        raise Errno("EINVAL")
    if which == PRIO_PROCESS:
        return [_task(k, t, who)]
    pgid = who or t.process.pgid
    found = [x for x in k.tasks.values() if which == PRIO_USER or x.process.pgid == pgid]
    if not found:
        raise Errno("ESRCH")
    return found


def sys_setpriority(k: Kernel, t: Task, a: Args) -> int:
    nice = (a[2] & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    for task in _named(k, t, a[0], a[1]):
        _renice(task, nice)
    return 0


def sys_getpriority(k: Kernel, t: Task, a: Args) -> int:
    """20 - nice, so that it is never negative."""
    return max(20 - task.nice for task in _named(k, t, a[0], a[1]))


def sys_getcpu(k: Kernel, t: Task, a: Args) -> int:
    for addr in a[:2]:
        if addr:
            usermem.put_u32(k, t, addr, 0)
    return 0


def sys_membarrier(k: Kernel, t: Task, a: Args) -> int:
    """No barrier is needed: one hart runs at a time and sees all stores in order."""
    command, flags = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
    if flags or command & ~_MEMBARRIERS or command & (command - 1):
        raise Errno("EINVAL")
    return 0 if command else _MEMBARRIERS


def _no_disk(k: Kernel, t: Task, a: Args) -> int:
    return 0


_ONE_CPU: Final = "there is one cpu, and every task is SCHED_OTHER"

CALLS: Final = (
    Call("ioprio_set", _no_disk, "simple", "there is no disk"),
    Call("ioprio_get", _no_disk, "simple", "there is no disk"),
    Call("sched_setparam", sys_sched_setparam, "simple", _ONE_CPU),
    Call("sched_setscheduler", sys_sched_setscheduler, "simple", _ONE_CPU),
    Call("sched_getscheduler", sys_sched_getscheduler, "simple", _ONE_CPU),
    Call("sched_getparam", sys_sched_getparam, "simple", _ONE_CPU),
    Call("sched_setaffinity", sys_sched_setaffinity, "simple", _ONE_CPU),
    Call("sched_getaffinity", sys_sched_getaffinity, "simple", _ONE_CPU),
    Call("sched_yield", sys_sched_yield),
    Call("sched_get_priority_max", sys_sched_get_priority_max),
    Call("sched_get_priority_min", sys_sched_get_priority_min),
    Call("sched_rr_get_interval", sys_sched_rr_get_interval, "simple", _ONE_CPU),
    Call("setpriority", sys_setpriority, "simple", "nice values are kept but have no effect"),
    Call("getpriority", sys_getpriority),
    Call("getcpu", sys_getcpu, "simple", "everything runs on cpu 0"),
    Call("sched_setattr", sys_sched_setattr, "simple", _ONE_CPU),
    Call("sched_getattr", sys_sched_getattr, "simple", _ONE_CPU),
    Call("membarrier", sys_membarrier, "simple", "memory is sequentially consistent anyway"),
)
