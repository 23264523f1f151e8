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
_REMOVED: Final = "ENOSYS", "Linux has removed it"
_NO_KEYS: Final = "ENOSYS", "RISC-V has no protection keys"
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
        "reboot",
        "swapon",
        "swapoff",
        "open_by_handle_at",
        "finit_module",
        "kexec_file_load",
        "open_tree",
        "open_tree_attr",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "quotactl_fd",
    ),
    _RSEQ: ("rseq",),
    _REMOVED: ("lookup_dcookie", "nfsservctl"),
    _NO_KEYS: ("pkey_mprotect", "pkey_alloc", "pkey_free"),
    _ABSENT: (
        "add_key",
        "request_key",
        "keyctl",
        "mbind",
        "get_mempolicy",
        "set_mempolicy",
        "perf_event_open",
        "fanotify_init",
        "fanotify_mark",
        "seccomp",
        "bpf",
        "userfaultfd",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "memfd_secret",
        "migrate_pages",
        "move_pages",
        "set_mempolicy_home_node",
        "process_mrelease",
        "cachestat",
        "statmount",
        "listmount",
        "listns",
        "lsm_get_self_attr",
        "lsm_set_self_attr",
        "lsm_list_modules",
        "setxattrat",
        "getxattrat",
        "listxattrat",
        "removexattrat",
        "file_getattr",
        "file_setattr",
        "rseq_slice_yield",
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
