"""Resource limits."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import CLOCK_PROCESS_CPUTIME_ID, RLIM_INFINITY, RLIMITS, SI_KERNEL, SIGNALS
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.time.clock import SECOND
from shstk.tracer.kernel.time.timers import Timer

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Process, Task

_LIMIT: Final = struct.Struct("<QQ")
_NR_OPEN: Final = 1 << 20

# (soft, hard) limits of the first process. All others are unlimited.
DEFAULTS: Final[dict[str, tuple[int, int]]] = {
    **dict.fromkeys(RLIMITS, (RLIM_INFINITY, RLIM_INFINITY)),
    "STACK": (8 << 20, RLIM_INFINITY),
    "CORE": (0, RLIM_INFINITY),
    "NPROC": (4096, 4096),
    "NOFILE": (1024, 4096),
    "MEMLOCK": (8 << 20, 8 << 20),
    "SIGPENDING": (4096, 4096),
    "MSGQUEUE": (819200, 819200),
    "NICE": (0, 0),
    "RTPRIO": (0, 0),
}


def _name(resource: int) -> str:
    resource &= 0xFFFF_FFFF
    if resource >= len(RLIMITS):
        raise Errno("EINVAL")
    return RLIMITS[resource]


class CpuLimit(Timer):
    """RLIMIT_CPU of a process: SIGXCPU at the soft limit and every second after it, SIGKILL at the
    hard limit (check_process_timers of kernel/time/posix-cpu-timers.c)."""

    def arm(self, k: Kernel) -> None:
        soft, _ = self.owner.process.rlimits["CPU"]
        self.set(k, 0 if soft == RLIM_INFINITY else max(soft, 1) * SECOND, 0, absolute=True)

    def ring(self, k: Kernel) -> None:
        process, used = self.owner.process, self.now(k)
        if used >= process.rlimits["CPU"][1] * SECOND:
            signals.send(k, process, SIGNALS["SIGKILL"], SI_KERNEL)
            return
        signals.send(k, process, SIGNALS["SIGXCPU"], SI_KERNEL)
        self.set(k, used + SECOND, 0, absolute=True)


def limit_cpu(k: Kernel, process: Process) -> None:
    """Called for a new process, and when the limit changes."""
    if process.cpu_limit is None and process.rlimits["CPU"][0] == RLIM_INFINITY:
        return
    if process.cpu_limit is None:
        process.cpu_limit = CpuLimit(CLOCK_PROCESS_CPUTIME_ID, process.leader)
    process.cpu_limit.arm(k)


def _set(k: Kernel, process: Process, name: str, soft: int, hard: int) -> None:
    """Errno: EINVAL, EPERM (only a privileged task raises a hard limit)."""
    if soft > hard or (name == "NOFILE" and hard > _NR_OPEN):
        raise Errno("EINVAL" if soft > hard else "EPERM")
    if hard > process.rlimits[name][1]:
        raise Errno("EPERM")
    process.rlimits[name] = (soft, hard)
    if name == "CPU":
        limit_cpu(k, process)


def sys_prlimit64(k: Kernel, t: Task, a: Args) -> int:
    """The new limit is read first, and the resource checked last."""
    pid, resource, new, old, *_ = a
    wanted = _LIMIT.unpack(usermem.get(k, t, new, _LIMIT.size)) if new else None
    pid &= 0xFFFF_FFFF
    target = k.find(pid) if pid else t
    if target is None:
        raise Errno("ESRCH")
    if target.process.uid != t.process.uid:
        raise Errno("EPERM")
    name = _name(resource)
    before = target.process.rlimits[name]
    if wanted is not None:
        _set(k, target.process, name, *wanted)
    if old:
        usermem.put(k, t, old, _LIMIT.pack(*before))
    return 0


def sys_getrlimit(k: Kernel, t: Task, a: Args) -> int:
    usermem.put(k, t, a[1], _LIMIT.pack(*t.process.rlimits[_name(a[0])]))
    return 0


def sys_setrlimit(k: Kernel, t: Task, a: Args) -> int:
    soft, hard = _LIMIT.unpack(usermem.get(k, t, a[1], _LIMIT.size))
    _set(k, t.process, _name(a[0]), soft, hard)
    return 0


CALLS = (
    Call("getrlimit", sys_getrlimit),
    Call(
        "setrlimit",
        sys_setrlimit,
        why="LOCKS, RSS, NICE, RTPRIO and RTTIME are kept but have no effect",
    ),
    Call(
        "prlimit64",
        sys_prlimit64,
        why="LOCKS, RSS, NICE, RTPRIO and RTTIME are kept but have no effect",
    ),
)
