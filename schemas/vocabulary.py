"""The words of dictionary-encoded columns, in a fixed order."""

from __future__ import annotations

from typing import Final

TASK_EVENT_KINDS: Final = (
    "created",
    "first_user",
    "exec_begin",
    "exec_done",
    "exit_begin",
    "robust_done",
    "clear_child_tid",
    "futex_wake",
    "vfork_done",
    "mm_dropped",
    "reaped",
)
CLONE_APIS: Final = ("clone", "clone3", "fork", "vfork")
MM_CAUSES: Final = ("exec", "fork")
SYSCALL_OUTCOMES: Final = ("returned", "no_return", "killed", "restarted", "run_ended", "loader")
MAPPING_OPS: Final = ("map", "unmap", "protect", "remap", "discard")
KERNEL_MEMORY_OPS: Final = ("write", "read", "swap")
TREE_OPS: Final = ("mode", "names", "read", "target")
TREE_KINDS: Final = ("root", "bind", "program")
# The order is the executor's: it writes indices.
CFI_KINDS: Final = ("sspush", "sspopchk", "ssamoswap", "ssrdp", "ssp_read", "ssp_write", "lpad")
SIGNAL_KINDS: Final = ("delivery", "sigreturn", "fatal")
SCHED_WHYS: Final = ("start", "preempted", "blocked", "exited", "yielded")
ENDINGS: Final = (
    "exited",
    "killed",
    "deadlock",
    "limit",
    "timeout",
    "interrupted",
    "full",  # the run reached --max-size
    "steps",  # the kernel took more steps at one instruction than positions have room for
    "stopped",  # by a plugin; manifest.warnings names the plugin and the reason
    "recovered",
)
# model: the executor under our model of a kernel; listing: written by hand.
RECORDERS: Final = ("model", "listing", "qemu", "ftrace", "core", "spike", "strace")
SHADOW_STACK_SIGNS: Final = ("ssp", "guess")
SEVERITIES: Final = ("error", "warning", "info")
# deviation: a finding that the emulator explains (replay/deviations.py).
OUTCOMES: Final = ("violated", "satisfied", "not evaluated", "deviation")
