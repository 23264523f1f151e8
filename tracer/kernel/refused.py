"""Calls that are always refused: a capability is missing, or the configuration lacks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import Args, Call, Handler
from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_ROOT: Final = "EPERM", "needs a capability that an ordinary user lacks"
_ABSENT: Final = "ENOSYS", "not in this kernel's configuration"
_RSEQ: Final = "ENOSYS", "programs do without: nothing is restarted behind their backs"

# Errno and reason -> the calls refused so.
_REFUSED: Final[dict[tuple[str, str], dict[int, str]]] = {
    _ROOT: {
        39: "umount2",
        40: "mount",
        41: "pivot_root",
        51: "chroot",
        58: "vhangup",
        60: "quotactl",
        89: "acct",
        104: "kexec_load",
        105: "init_module",
        106: "delete_module",
        116: "syslog",
        142: "reboot",
        224: "swapon",
        225: "swapoff",
        265: "open_by_handle_at",
        268: "setns",
        273: "finit_module",
    },
    _RSEQ: {293: "rseq"},
    _ABSENT: {
        75: "vmsplice",
        76: "splice",
        77: "tee",
        180: "mq_open",
        186: "msgget",
        190: "semget",
        217: "add_key",
        218: "request_key",
        219: "keyctl",
        235: "mbind",
        236: "get_mempolicy",
        237: "set_mempolicy",
        241: "perf_event_open",
        262: "fanotify_init",
        264: "name_to_handle_at",
        272: "kcmp",
        277: "seccomp",
        280: "bpf",
        282: "userfaultfd",
        425: "io_uring_setup",
        426: "io_uring_enter",
        427: "io_uring_register",
        434: "pidfd_open",
        444: "landlock_create_ruleset",
        445: "landlock_add_rule",
        446: "landlock_restrict_self",
        447: "memfd_secret",
        462: "mseal",
    },
}


def _refusal(name: str, errno: str, why: str) -> Handler:
    """What another kernel would have done is refused with a warning."""

    def handler(k: Kernel, t: Task, a: Args) -> int:
        if why == _ABSENT[1]:
            k.warn(f"{name} is not modelled (-{errno})")
        raise Errno(errno)

    return handler


CALLS: Final = tuple(
    Call(nr, name, _refusal(name, errno, why), "refused", why)
    for (errno, why), calls in _REFUSED.items()
    for nr, name in calls.items()
)
