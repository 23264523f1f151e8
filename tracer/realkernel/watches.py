"""What the plugin watches in the kernel: functions, and what to read at their entry or return.

Each row says which tables it feeds. A kernel that lacks the function, or a member that a row reads,
leaves those tables unobserved; the others are recorded all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# A step from a base: a member, `struct.member`, or a number of bytes. All but the last are pointers
# that are followed.
Step = str | int


@dataclass(frozen=True)
class Peek:
    """Bytes to read. base: an argument (a0 to a7, as at the entry), task (the current one), result
    (what the function returned). size: a number,
    `sizeof STRUCT`, or the argument that holds it. columns: what is unknown without it."""

    name: str
    base: str
    steps: tuple[Step, ...]
    size: int | str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """A function. entry, result: what to read then. returns: record the return. any_task: also of
    tasks that were never in user mode. new_task: the argument that is a task about to run for the
    first time. within: only inside of that function. feeds: tables, or columns of them."""

    symbol: str
    entry: tuple[Peek, ...] = ()
    result: tuple[Peek, ...] = ()
    returns: bool = False
    any_task: bool = False
    new_task: str = ""
    within: str = ""
    feeds: tuple[str, ...] = ()


def _member(name: str, base: str, path: str, size: int, *columns: str) -> Peek:
    return Peek(name, base, (path,), size, columns)


_CFI: Final = "task_struct.thread_info.user_cfi_state"
CFI_SSP: Final = f"{_CFI}.user_shdw_stk"

# What is read of a task whenever it returns to user mode.
USER: Final = (
    _member("pid", "task", "task_struct.pid", 4),
    _member("tgid", "task", "task_struct.tgid", 4),
    _member("comm", "task", "task_struct.comm", 16),
)

WATCHES: Final = (
    # Address spaces.
    Watch(
        "do_mmap",
        entry=(Peek("file", "a0", ("file.f_path.dentry", "dentry.d_name.name", 0), 64),),
        returns=True,
        feeds=("mappings",),
    ),
    Watch("do_vmi_munmap", returns=True, feeds=("mappings",)),
    Watch("do_vmi_align_munmap", returns=True, feeds=("mappings",)),
    Watch("do_brk_flags", returns=True, feeds=("mappings",)),
    Watch(
        "expand_downwards",
        entry=(
            _member("end", "a0", "vm_area_struct.vm_end", 8, "mappings"),
            _member("start", "a0", "vm_area_struct.vm_start", 8, "mappings"),
            _member("flags", "a0", "vm_area_struct.vm_flags", 8, "mappings.prot"),
        ),
        returns=True,
        feeds=("mappings",),
    ),
    Watch("_install_special_mapping", returns=True, feeds=("mappings",)),
    Watch(
        "mmput",
        entry=(_member("users", "a0", "mm_struct.mm_users", 4, "task_events.value"),),
        feeds=("task_events.value", "mms.seq_end"),
    ),
    # The life of a task.
    Watch(
        "wake_up_new_task",
        entry=(
            _member("pid", "a0", "task_struct.pid", 4, "task_events"),
            _member("tgid", "a0", "task_struct.tgid", 4, "task_events"),
            _member("mm", "a0", "task_struct.mm", 8, "mms"),
            _member("ssp", "a0", CFI_SSP, 8, "task_events.ssp"),
        ),
        new_task="a0",
        feeds=("task_events", "clones.child_tid", "mms"),
    ),
    Watch("begin_new_exec", returns=True, feeds=("task_events", "mms")),
    Watch(
        "bprm_execve",
        entry=(Peek("filename", "a0", ("linux_binprm.filename", 0), 256),),
        returns=True,
        feeds=("task_events.status",),
    ),
    Watch("do_exit", feeds=("task_events",)),
    Watch("do_group_exit", feeds=("signals",)),
    Watch(
        "mm_release",
        entry=(
            _member("clear_child_tid", "a0", "task_struct.clear_child_tid", 8, "task_events.addr"),
            _member("vfork_done", "a0", "task_struct.vfork_done", 8, "task_events"),
        ),
        returns=True,
        feeds=("task_events",),
    ),
    Watch("futex_wake", returns=True, within="mm_release", feeds=("task_events.value",)),
    Watch("complete", within="mm_release", feeds=("task_events",)),
    Watch(
        "release_task",
        entry=(
            _member("code", "a0", "task_struct.exit_code", 4, "task_events.status"),
            Peek(
                "group",
                "a0",
                ("task_struct.signal", "signal_struct.flags"),
                4,
                ("task_events.status",),
            ),
            Peek(
                "group_code",
                "a0",
                ("task_struct.signal", "signal_struct.group_exit_code"),
                4,
                ("task_events.status",),
            ),
        ),
        any_task=True,
        feeds=("task_events",),
    ),
    # Signals and exceptions.
    Watch(
        "arch_do_signal_or_restart",
        entry=(
            _member("a0", "a0", "pt_regs.a0", 8, "syscalls.ret"),
            _member("pc", "a0", "pt_regs.epc", 8, "syscalls.outcome"),
        ),
        result=(
            _member("pc", "a0", "pt_regs.epc", 8, "signals.handler"),
            _member("sp", "a0", "pt_regs.sp", 8, "signals.frame"),
            _member("ssp", "task", CFI_SSP, 8, "signals.ssp_after"),
        ),
        returns=True,
        feeds=("syscalls.ret", "signals"),
    ),
    Watch("get_signal", returns=True, feeds=("signals",)),
    Watch(
        "signal_setup_done",
        entry=(
            Peek("info", "a1", ("ksignal.info",), "sizeof kernel_siginfo", ("signals",)),
            _member("sa_flags", "a1", "ksignal.ka.sa.sa_flags", 8, "syscalls.outcome"),
            _member("alt_sp", "task", "task_struct.sas_ss_sp", 8, "signals.alt_stack"),
            _member("alt_size", "task", "task_struct.sas_ss_size", 8, "signals.alt_stack"),
        ),
        feeds=("signals",),
    ),
    Watch(
        "send_signal_locked",
        entry=(
            Peek("info", "a1", (0,), "sizeof kernel_siginfo"),
            _member("tgid", "a2", "task_struct.tgid", 4),
        ),
        feeds=("signals.sender",),
    ),
    Watch("force_sig_fault", feeds=("faults", "signals.code")),
    # Tokens, and copies that the exception table's instructions don't show.
    Watch("save_user_shstk", returns=True, feeds=("signals.token_value",)),
    Watch("restore_user_shstk", returns=True, feeds=("signals.token_value",)),
    Watch(
        "enter_vector_usercopy",
        entry=(Peek("bytes", "a1", (0,), "a2", ("kernel_memory",)),),
        feeds=("kernel_memory",),
    ),
)
