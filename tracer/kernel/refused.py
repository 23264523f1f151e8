"""Calls that always fail: they need a capability, or the kernel is configured without them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import Args, Call, Handler
from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_ROOT: Final = "EPERM", "needs a capability that an ordinary user lacks"
_ABSENT: Final = "ENOSYS", "not in this kernel's configuration"
_RSEQ: Final = "ENOSYS", "programs work without it: no critical section is restarted"

# (errno, reason) -> calls.
_REFUSED: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    _ROOT: (
        "umount2",
        "mount",
        "pivot_root",
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
        "add_key",
        "request_key",
        "keyctl",
        "mbind",
        "get_mempolicy",
        "set_mempolicy",
        "perf_event_open",
        "fanotify_init",
        "seccomp",
        "bpf",
        "userfaultfd",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "memfd_secret",
        "mseal",
    ),
}


def _refusal(name: str, errno: str, why: str) -> Handler:
    """A call that another configuration implements fails with a warning."""

    def handler(k: Kernel, t: Task, a: Args) -> int:
        if why == _ABSENT[1]:
            k.warn(f"{name} is not modelled (-{errno})")
        raise Errno(errno)

    return handler


CALLS: Final = tuple(
    Call(name, _refusal(name, errno, why), "refused", why)
    for (errno, why), names in _REFUSED.items()
    for name in names
)
