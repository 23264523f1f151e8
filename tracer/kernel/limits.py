"""Resource limits."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from schemas.uapi import RLIM_INFINITY, RLIMITS
from tracer.kernel import usermem
from tracer.kernel.call import Args, Call
from tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from tracer.kernel.kernel import Kernel
    from tracer.kernel.task import Process, Task

_LIMIT: Final = struct.Struct("<QQ")
_NR_OPEN: Final = 1 << 20

# Soft and hard, as a first process has them; what is not here is unlimited.
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


def _set(process: Process, name: str, soft: int, hard: int) -> None:
    """Errno: EINVAL, EPERM (only a privileged task raises a hard limit)."""
    if soft > hard or (name == "NOFILE" and hard > _NR_OPEN):
        raise Errno("EINVAL" if soft > hard else "EPERM")
    if hard > process.rlimits[name][1]:
        raise Errno("EPERM")
    process.rlimits[name] = (soft, hard)


def sys_prlimit64(k: Kernel, t: Task, a: Args) -> int:
    pid, resource, new, old, *_ = a
    target = k.tasks.get(pid & 0xFFFF_FFFF) if pid else t
    if target is None:
        raise Errno("ESRCH")
    name = _name(resource)
    wanted = _LIMIT.unpack(usermem.get(k, t, new, _LIMIT.size)) if new else None
    before = target.process.rlimits[name]
    if wanted is not None:
        _set(target.process, name, *wanted)
    if old:
        usermem.put(k, t, old, _LIMIT.pack(*before))
    return 0


def sys_getrlimit(k: Kernel, t: Task, a: Args) -> int:
    usermem.put(k, t, a[1], _LIMIT.pack(*t.process.rlimits[_name(a[0])]))
    return 0


def sys_setrlimit(k: Kernel, t: Task, a: Args) -> int:
    soft, hard = _LIMIT.unpack(usermem.get(k, t, a[1], _LIMIT.size))
    _set(t.process, _name(a[0]), soft, hard)
    return 0


CALLS = (
    Call(163, "getrlimit", sys_getrlimit),
    Call(164, "setrlimit", sys_setrlimit),
    Call(261, "prlimit64", sys_prlimit64),
)
