"""The probes that `shstk ftrace-probes` prints, and the names under which their events come.

A probe that a kernel refuses (a function that it lacks, or inlined) leaves the others: what is then
not observed is told by the events that never occur in the trace.
"""

from __future__ import annotations

from typing import Final

_STATE: Final = "thread_info.user_cfi_state"
GROUP: Final = "shstk"
# Every line goes to dynamic_events. f: entry of a function, or with %return its return; t: a
# tracepoint with the kernel's own arguments.
PROBES: Final = (
    f"f:{GROUP}/ss_clone kernel_clone flags=args->flags:x64 stack=args->stack:x64"
    " size=args->stack_size:x64 tls=args->tls:x64 ptid=args->parent_tid:x64"
    " ctid=args->child_tid:x64 sig=args->exit_signal",
    f"f:{GROUP}/ss_alloc shstk_alloc_thread_stack tsk=tsk->pid en=tsk->{_STATE}.ubcfi_en"
    f" flags=args->flags:x64 size=args->stack_size:x64 ssp=tsk->{_STATE}.user_shdw_stk:x64",
    f"f:{GROUP}/ss_active set_active_shstk tsk=task->pid ssp=shstk_addr:x64",
    f"f:{GROUP}/ss_release shstk_release tsk=tsk->pid en=tsk->{_STATE}.ubcfi_en"
    f" base=tsk->{_STATE}.shdw_stk_base:x64 size=tsk->{_STATE}.shdw_stk_size:x64"
    f" ssp=tsk->{_STATE}.user_shdw_stk:x64",
    f"f:{GROUP}/ss_map do_mmap addr=addr:x64 len=len:x64 prot=prot:x64 flags=flags:x64"
    " vm_flags=vm_flags:x64 pgoff=pgoff:x64 file=file:x64",
    f"f:{GROUP}/ss_map_ret do_mmap%return ret=$retval:x64",
    f"f:{GROUP}/ss_unmap do_vmi_munmap start=start:x64 len=len:x64",
    f"f:{GROUP}/ss_unmap_ret do_vmi_munmap%return ret=$retval:s32",
    f"f:{GROUP}/ss_save save_user_shstk tsk=tsk->pid ssp=tsk->{_STATE}.user_shdw_stk:x64",
    f"f:{GROUP}/ss_restore restore_user_shstk tsk=tsk->pid ptr=shstk_ptr:x64",
    f"f:{GROUP}/ss_exec begin_new_exec",
    f"f:{GROUP}/ss_exit do_exit code=code",
    f"f:{GROUP}/ss_mm_release mm_release tsk=tsk->pid ctid=tsk->clear_child_tid:x64",
    f"f:{GROUP}/ss_mmput mmput mm=mm:x64 users=mm->mm_users.counter",
    f"f:{GROUP}/ss_wake futex_wake uaddr=uaddr:x64",
    f"f:{GROUP}/ss_wake_ret futex_wake%return ret=$retval:s32",
    f"t:{GROUP}/ss_new sched_process_fork child=child->pid mm=child->mm:x64"
    f" ssp=child->{_STATE}.user_shdw_stk:x64",
    f"t:{GROUP}/ss_switch sched_switch next=next->pid ssp=next->{_STATE}.user_shdw_stk:x64",
)
# The kernel's own tracepoints.
EVENTS: Final = (
    f"{GROUP}:*",
    "raw_syscalls:*",
    "sched:sched_process_fork",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "sched:sched_switch",
    "sched:sched_wakeup_new",  # also of io_uring's workers, which no fork tells
    "signal:signal_deliver",
)
COMMANDS: Final = (
    "cd /sys/kernel/tracing; echo 0 > tracing_on; grep -v '^#' ~/probes | while read -r p; do"
    ' echo "$p" >> dynamic_events; done',
    f"echo '{' '.join(EVENTS)}' > set_event",
    "b=$(cat /proc/version) n=$(nproc) s=$(ulimit -s); echo mono > trace_clock;"
    " echo 65536 > buffer_size_kb; echo > trace; echo 1 > tracing_on",
    'for l in "banner $b" "harts $n" "stack $s"; do echo "shstk: $l" > trace_marker; done;'
    " (exec /path/to/PROGRAM ARGS)",
    "echo 0 > tracing_on; cat trace > ~/trace.txt",
)
# The first prototypes of these probes had other names.
ALIASES: Final = {
    "alloc": "ss_alloc",
    "release": "ss_release",
    "active": "ss_active",
    "map": "ss_own_map",  # vm_mmap_shadow_stack, which maps shadow stacks only
    "map_ret": "ss_own_map_ret",
    "munmap": "ss_own_unmap",  # vm_munmap, by which the kernel unmaps
    "munmap_ret": "ss_own_unmap_ret",
    "save": "ss_save",
    "restore": "ss_restore",
    "mm_release": "ss_mm_release",
    "exit_mmap": "ss_exit_mmap",
    "do_exit": "ss_exit",
    "futex_wake": "ss_wake",
}


def printed() -> str:
    """The file of probes, with the commands that set them and record a program as comments."""
    lines = [
        "# Probes of shstk for a kernel with CONFIG_RISCV_USER_CFI, CONFIG_FPROBE_EVENTS and",
        "# CONFIG_DEBUG_INFO_BTF. Save this as ~/probes there, and run as root, in one shell:",
        "#",
        *(f"#   {command}" for command in COMMANDS),
        "#",
        "# Then: shstk import ftrace trace.txt -o prog.run",
        "# What a line makes no event of (its function may be inlined) is named as not observable.",
        *PROBES,
    ]
    return "\n".join(lines) + "\n"
