"""Scheduling calls, for one cpu. What a program sets is kept but has no effect.

Also getcpu, membarrier and ioprio.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    IOPRIO_WHO_PGRP,
    IOPRIO_WHO_PROCESS,
    IOPRIO_WHO_USER,
    PAGE,
    PRIO_PGRP,
    PRIO_PROCESS,
    PRIO_USER,
    SCHED_BATCH,
    SCHED_DEADLINE,
    SCHED_EXT,
    SCHED_FIFO,
    SCHED_IDLE,
    SCHED_OTHER,
    SCHED_RR,
)
from shstk.tracer.kernel.call import Args, Call, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.task import UID, Scheduling, Task
from shstk.tracer.kernel.time.clock import pack_timespec

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_ORDINARY: Final = (SCHED_OTHER, SCHED_BATCH, SCHED_IDLE)
_REAL_TIME: Final = (SCHED_FIFO, SCHED_RR)
_RESET_ON_FORK: Final = 0x4000_0000
_SAME_POLICY: Final = -1  # SETPARAM_POLICY
_SLICE_NS: Final = 3_000_000
_CPU_MASK: Final = 32  # cpumask_size() of a kernel built for up to 256 cpus
_CPU_SET: Final = 8  # bytes of the smallest cpu set
# struct sched_attr: size, policy, flags, nice, priority, runtime, deadline, period, utils
_ATTR: Final = struct.Struct("<IIQiI3Q2I")
_ATTR_VER0: Final = 48  # bytes of its first version
_FLAG_RESET, _FLAG_KEEP_POLICY, _FLAG_KEEP_PARAMS, _FLAGS_KNOWN = 1, 8, 0x10, 0x7F
_FLAG_UTIL_CLAMP: Final = 0x60


_CLAMP_MAX: Final = 1024  # util_max by default

# ioprio: a class above 13 bits of its level and hint
_CLASS_SHIFT: Final = 13
_CLASS_NONE, _CLASS_RT, _CLASS_BE, _CLASS_IDLE = range(4)

# membarrier's commands: QUERY is 0. A kernel without restartable sequences lacks those for them.
_GLOBAL, _GLOBAL_EXPEDITED, _GET_REGISTRATIONS = 1, 2, 0x200
_PRIVATE: Final = (8, 0x20)  # PRIVATE_EXPEDITED, …_SYNC_CORE; twice each registers it
_REGISTER: Final = (4, 0x10, 0x40)
_MEMBARRIERS: Final = (_GLOBAL, _GLOBAL_EXPEDITED, *_PRIVATE, *_REGISTER, _GET_REGISTRATIONS)


def _task(k: Kernel, t: Task, pid: int) -> Task:
    """The task of a pid; 0 is the caller. Errno: ESRCH."""
    task = k.find(pid & 0xFFFF_FFFF) if pid & 0xFFFF_FFFF else t
    if task is None:
        raise Errno("ESRCH")
    return task


def _check_pid(pid: int, *pointers: int) -> None:
    """A negative pid and a null pointer are EINVAL, before everything else."""
    if pid & 0x8000_0000 or 0 in pointers:
        raise Errno("EINVAL")


class _Wanted(NamedTuple):
    """The parts of struct sched_attr that sched_setscheduler has too."""

    policy: int
    priority: int
    nice: int
    flags: int = 0
    deadline_fits: bool = False  # __checkparam_dl()


def _own(task: Task) -> bool:
    """check_same_owner()."""
    return task.process.uid == UID


def _may_lower(task: Task, nice: int) -> bool:
    """is_nice_reduction()."""
    return 20 - nice <= task.rlimit("NICE")


def _set_scheduler(task: Task, wanted: _Wanted) -> int:
    """__sched_setscheduler(): what is invalid, then what an ordinary user may not do."""
    now = task.scheduling
    keeps = wanted.policy == _SAME_POLICY
    policy = now.policy if keeps else wanted.policy
    resets = now.reset_on_fork if keeps else bool(wanted.flags & _FLAG_RESET)
    if policy not in (*_ORDINARY, *_REAL_TIME, SCHED_DEADLINE) or wanted.flags & ~_FLAGS_KNOWN:
        raise Errno("EINVAL")
    if policy == SCHED_DEADLINE and not wanted.deadline_fits:
        raise Errno("EINVAL")
    if wanted.priority > 99 or (policy in _REAL_TIME) != bool(wanted.priority):
        raise Errno("EINVAL")
    _check_privilege(task, policy, wanted, resets)
    task.scheduling = replace(now, policy=policy, priority=wanted.priority, reset_on_fork=resets)
    if policy in _ORDINARY:
        task.scheduling.nice = wanted.nice
    return 0


def _check_privilege(task: Task, policy: int, wanted: _Wanted, resets: bool) -> None:
    """user_check_sched_setscheduler(). Errno EPERM."""
    now, limit = task.scheduling, task.rlimit("RTPRIO")
    refused = policy == SCHED_DEADLINE or (now.reset_on_fork and not resets)
    refused = refused or not _own(task)
    if policy in _ORDINARY and wanted.nice < now.nice and not _may_lower(task, wanted.nice):
        refused = True
    if policy in _REAL_TIME:
        refused = refused or (policy != now.policy and not limit)
        refused = refused or (wanted.priority > now.priority and wanted.priority > limit)
    if now.policy == SCHED_IDLE and policy != SCHED_IDLE and not _may_lower(task, now.nice):
        refused = True
    if refused:
        raise Errno("EPERM")


def _set(k: Kernel, t: Task, pid: int, policy: int, param: int) -> int:
    """do_sched_setscheduler()."""
    _check_pid(pid, param)
    priority = usermem.get_u32(k, t, param)
    task = _task(k, t, pid)
    flags = 0
    if policy != _SAME_POLICY and policy & _RESET_ON_FORK:
        policy, flags = policy & ~_RESET_ON_FORK, _FLAG_RESET
    return _set_scheduler(task, _Wanted(policy, priority, task.scheduling.nice, flags))


def sys_sched_setparam(k: Kernel, t: Task, a: Args) -> int:
    return _set(k, t, a[0], _SAME_POLICY, a[1])


def sys_sched_setscheduler(k: Kernel, t: Task, a: Args) -> int:
    if a[1] & 0x8000_0000:
        raise Errno("EINVAL")
    return _set(k, t, a[0], a[1] & 0x7FFF_FFFF, a[2])


def sys_sched_getscheduler(k: Kernel, t: Task, a: Args) -> int:
    _check_pid(a[0])
    now = _task(k, t, a[0]).scheduling
    return now.policy | (_RESET_ON_FORK if now.reset_on_fork else 0)


def sys_sched_getparam(k: Kernel, t: Task, a: Args) -> int:
    _check_pid(a[0], a[1])
    usermem.put_u32(k, t, a[1], _task(k, t, a[0]).scheduling.priority)
    return 0


def sys_sched_setaffinity(k: Kernel, t: Task, a: Args) -> int:
    mask = usermem.get(k, t, a[2], min(a[1] & 0xFFFF_FFFF, _CPU_SET))
    if not _own(_task(k, t, a[0])):
        raise Errno("EPERM")
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
    if policy in (*_ORDINARY, SCHED_DEADLINE, SCHED_EXT):
        return 0
    raise Errno("EINVAL")


def sys_sched_rr_get_interval(k: Kernel, t: Task, a: Args) -> int:
    _check_pid(a[0])
    _task(k, t, a[0])
    usermem.put(k, t, a[1], pack_timespec(_SLICE_NS))
    return 0


def _get_attr(k: Kernel, t: Task, addr: int) -> tuple[int, ...]:
    """sched_copy_attr(). Errno E2BIG: the size is not that of any version; the kernel's is stored
    in its place."""
    size = usermem.get_u32(k, t, addr) or _ATTR_VER0
    if not _ATTR_VER0 <= size <= PAGE:
        usermem.put_u32(k, t, addr, _ATTR.size)
        raise Errno("E2BIG")
    data = usermem.get(k, t, addr, size)
    if any(data[_ATTR.size :]):
        usermem.put_u32(k, t, addr, _ATTR.size)
        raise Errno("E2BIG")
    fields: tuple[int, ...] = _ATTR.unpack(data[: _ATTR.size].ljust(_ATTR.size, b"\0"))
    if fields[2] & _FLAG_UTIL_CLAMP and size < _ATTR.size:
        raise Errno("EINVAL")
    return fields


def sys_sched_setattr(k: Kernel, t: Task, a: Args) -> int:
    _check_pid(a[0], a[1])
    if a[2] & 0xFFFF_FFFF:
        raise Errno("EINVAL")
    _, policy, flags, nice, priority, runtime, deadline, period, *_ = _get_attr(k, t, a[1])
    if policy >> 31:
        raise Errno("EINVAL")
    task = _task(k, t, a[0])
    if flags & _FLAG_KEEP_POLICY:
        policy = _SAME_POLICY
    if flags & _FLAG_KEEP_PARAMS:
        nice, priority = task.scheduling.nice, task.scheduling.priority
    fits = 1024 <= runtime <= deadline <= (period or deadline) < 1 << 63
    return _set_scheduler(task, _Wanted(policy, priority, max(-20, min(19, nice)), flags, fits))


def sys_sched_getattr(k: Kernel, t: Task, a: Args) -> int:
    size = a[2] & 0xFFFF_FFFF
    _check_pid(a[0], a[1])
    if not _ATTR_VER0 <= size <= PAGE or a[3] & 0xFFFF_FFFF:
        raise Errno("EINVAL")
    now, size = _task(k, t, a[0]).scheduling, min(size, _ATTR.size)
    flags = _FLAG_RESET if now.reset_on_fork else 0
    nice = now.nice if now.policy in _ORDINARY else 0
    packed = _ATTR.pack(size, now.policy, flags, nice, now.priority, 0, 0, 0, 0, _CLAMP_MAX)
    usermem.put(k, t, a[1], packed[:size])
    return 0


def _named(k: Kernel, t: Task, which: int, who: int) -> list[Task]:
    """The tasks that `which` and `who` name. Errno: EINVAL, ESRCH (no such process)."""
    which, who = which & 0xFFFF_FFFF, who & 0xFFFF_FFFF
    if which not in (PRIO_PROCESS, PRIO_PGRP, PRIO_USER):
        raise Errno("EINVAL")
    if which == PRIO_PROCESS:
        return [_task(k, t, who)]
    everybody = [*k.outside.values(), *k.tasks.values()]
    if which == PRIO_USER:
        return [task for task in everybody if _own(task)] if who in (0, UID) else []
    pgid = who or t.process.pgid
    return [task for task in everybody if task.process.pgid == pgid]


def sys_setpriority(k: Kernel, t: Task, a: Args) -> int:
    """A task that may not be changed doesn't keep the others from being."""
    nice = max(-20, min(19, i32(a[2])))
    tasks = _named(k, t, a[0], a[1])
    if not tasks:
        raise Errno("ESRCH")
    refused = ""
    for task in tasks:
        if not _own(task):
            refused = "EPERM"
        elif nice < task.scheduling.nice and not _may_lower(task, nice):
            refused = "EACCES"
        else:
            task.scheduling.nice = nice
    if refused:
        raise Errno(refused)
    return 0


def sys_getpriority(k: Kernel, t: Task, a: Args) -> int:
    """20 - nice, so that it is never negative."""
    tasks = _named(k, t, a[0], a[1])
    if not tasks:
        raise Errno("ESRCH")
    return max(20 - task.scheduling.nice for task in tasks)


def _check_ioprio(ioprio: int) -> None:
    """ioprio_check_cap(). Errno EPERM, EINVAL."""
    kind, level = ioprio >> _CLASS_SHIFT & 7, ioprio & 7
    if kind == _CLASS_RT:
        raise Errno("EPERM")
    if kind > _CLASS_IDLE or (kind == _CLASS_NONE and level):
        raise Errno("EINVAL")


def _of_ioprio(k: Kernel, t: Task, which: int, who: int) -> list[Task]:
    """`which` is numbered from 1, unlike that of setpriority."""
    which &= 0xFFFF_FFFF
    if which not in (IOPRIO_WHO_PROCESS, IOPRIO_WHO_PGRP, IOPRIO_WHO_USER):
        raise Errno("EINVAL")
    tasks = _named(k, t, which - IOPRIO_WHO_PROCESS, who)
    if not tasks:
        raise Errno("ESRCH")
    return tasks


def sys_ioprio_set(k: Kernel, t: Task, a: Args) -> int:
    ioprio = a[2] & 0xFFFF_FFFF
    _check_ioprio(ioprio)
    for task in _of_ioprio(k, t, a[0], a[1]):
        if not _own(task):
            raise Errno("EPERM")
        task.scheduling.ioprio = ioprio & 0xFFFF
    return 0


def sys_ioprio_get(k: Kernel, t: Task, a: Args) -> int:
    """For a process what was set; for others the best that is in effect, which follows from nice
    where nothing was set."""
    tasks = _of_ioprio(k, t, a[0], a[1])
    if a[0] & 0xFFFF_FFFF == IOPRIO_WHO_PROCESS:
        return tasks[0].scheduling.ioprio
    return min(_effective_ioprio(task.scheduling) for task in tasks)


def _effective_ioprio(now: Scheduling) -> int:
    if now.ioprio >> _CLASS_SHIFT:
        return now.ioprio
    kind = {SCHED_IDLE: _CLASS_IDLE, SCHED_FIFO: _CLASS_RT, SCHED_RR: _CLASS_RT}
    return kind.get(now.policy, _CLASS_BE) << _CLASS_SHIFT | (now.nice + 20) // 5


def sys_getcpu(k: Kernel, t: Task, a: Args) -> int:
    for addr in a[:2]:
        if addr:
            usermem.put_u32(k, t, addr, 0)
    return 0


def sys_membarrier(k: Kernel, t: Task, a: Args) -> int:
    """No barrier is needed: one hart runs at a time and sees all stores in order. The private ones
    must have been registered by the address space."""
    command, mm = a[0] & 0xFFFF_FFFF, t.mm
    assert mm is not None
    if a[1] & 0xFFFF_FFFF or (command and command not in _MEMBARRIERS):
        raise Errno("EINVAL")
    if not command:
        return sum(_MEMBARRIERS)
    if command == _GET_REGISTRATIONS:
        return mm.membarriers
    if command in _REGISTER:
        mm.membarriers |= command
    elif command in _PRIVATE and not mm.membarriers & command << 1:
        raise Errno("EPERM")
    return 0


_ONE_CPU: Final = "there is one cpu; policies and priorities are kept but have no effect"

CALLS: Final = (
    Call("ioprio_set", sys_ioprio_set, "simple", "kept, but there is no disk"),
    Call("ioprio_get", sys_ioprio_get, "simple", "kept, but there is no disk"),
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
    Call("getpriority", sys_getpriority, why="nice values have no effect"),
    Call("getcpu", sys_getcpu, "simple", "everything runs on cpu 0"),
    Call("sched_setattr", sys_sched_setattr, "simple", _ONE_CPU),
    Call("sched_getattr", sys_sched_getattr, "simple", _ONE_CPU),
    Call("membarrier", sys_membarrier, "simple", "memory is sequentially consistent anyway"),
)
