"""Small calls of many kinds: randomness, the machine, and what is refused by name."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import Args, Call, Handler
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.proc.proctext import memory
from shstk.tracer.kernel.time.clock import SECOND

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_RANDOM_MAX: Final = 33554431  # bytes a call
_GRND_KNOWN: Final = 7
_MEMBARRIERS: Final = 0x7F  # all up to PRIVATE_EXPEDITED_SYNC_CORE, with their registrations


def sys_getrandom(k: Kernel, t: Task, a: Args) -> int:
    flags = a[2] & 0xFFFF_FFFF
    if flags & ~_GRND_KNOWN or flags & 6 == 6:
        raise Errno("EINVAL")
    data = k.rng.randbytes(min(a[1], _RANDOM_MAX))
    usermem.put(k, t, a[0], data)
    return len(data)


def sys_sysinfo(k: Kernel, t: Task, a: Args) -> int:
    """struct sysinfo."""
    total, free = memory(k)
    loads = (0, 0, 0)
    ram = (total, free, 0, 0, 0, 0)
    uptime = k.now_ns() // SECOND
    packed = struct.pack("<q3Q6QH6xQQI4x", uptime, *loads, *ram, len(k.tasks), 0, 0, 1)
    usermem.put(k, t, a[0], packed)
    return 0


def sys_getcpu(k: Kernel, t: Task, a: Args) -> int:
    for addr in a[:2]:
        if addr:
            usermem.put_u32(k, t, addr, 0)
    return 0


def sys_membarrier(k: Kernel, t: Task, a: Args) -> int:
    """One hart runs at a time, and sees everything in order."""
    command, flags = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
    if flags or command & ~_MEMBARRIERS or command & (command - 1):
        raise Errno("EINVAL")
    return 0 if command else _MEMBARRIERS


def _done(k: Kernel, t: Task, a: Args) -> int:
    return 0


def _refusal(name: str, errno: str, why: str) -> Handler:
    """What another kernel would have done is refused with a warning."""

    def handler(k: Kernel, t: Task, a: Args) -> int:
        if why == _ABSENT[1]:
            k.warn(f"{name} is not modelled (-{errno})")
        raise Errno(errno)

    return handler


_ROOT: Final = "EPERM", "needs a capability that an ordinary user lacks"
_ABSENT: Final = "ENOSYS", "not in this kernel's configuration"
_RSEQ: Final = "ENOSYS", "programs do without: nothing is restarted behind their backs"

# Errno and reason -> the calls refused so.
_REFUSED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    _ROOT: (
        "umount2",
        "mount",
        "pivot_root",
        "chroot",
        "vhangup",
        "quotactl",
        "acct",
        "kexec_load",
        "init_module",
        "delete_module",
        "syslog",
        "reboot",
        "swapon",
        "swapoff",
        "open_by_handle_at",
        "setns",
        "finit_module",
    ),
    _RSEQ: ("rseq",),
    _ABSENT: (
        "vmsplice",
        "splice",
        "tee",
        "mq_open",
        "msgget",
        "semget",
        "add_key",
        "request_key",
        "keyctl",
        "mbind",
        "get_mempolicy",
        "set_mempolicy",
        "perf_event_open",
        "fanotify_init",
        "name_to_handle_at",
        "kcmp",
        "seccomp",
        "bpf",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "pidfd_open",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "memfd_secret",
        "mseal",
    ),
}

CALLS: Final = (
    Call("ioprio_set", _done, "simple", "there is no disk"),
    Call("ioprio_get", _done, "simple", "there is no disk"),
    Call("getcpu", sys_getcpu, "simple", "everything runs on cpu 0"),
    Call("sysinfo", sys_sysinfo),
    Call("getrandom", sys_getrandom),
    Call("membarrier", sys_membarrier, "simple", "memory is seen in one order anyway"),
    *(
        Call(name, _refusal(name, errno, why), "refused", why)
        for (errno, why), names in _REFUSED.items()
        for name in names
    ),
)
