"""The end of tasks: do_exit in the kernel's order (kernel/exit.c, mm_release of kernel/fork.c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import CLD_DUMPED, CLD_EXITED, CLD_KILLED
from shstk.tracer.kernel.arch import shstk
from shstk.tracer.kernel.call import NO_RETURN, Args, Call, Outcome
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.ipc import sysvsem
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import futex, outside, pidfd, ptrace
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import SIGCHLD
from shstk.tracer.kernel.task import DEAD, ZOMBIE, Process, Task
from shstk.tracer.kernel.tty import pty

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm

_OWN_CALLS: Final = ("exit", "exit_group")


def do_exit(k: Kernel, t: Task, status: int) -> None:
    """End a task. status: a wait status, exit code << 8 or a signal."""
    if t.state in (ZOMBIE, DEAD):
        return
    outer, runner = k.during, k.current
    k.current = t
    k.during = k.event("exit_begin", t, status=status)
    t.exit_status = status
    _synchronize_group_exit(t, status)
    ptrace.ended(k, t)
    k.retire(t)
    if t.mm is not None:
        mm_release(k, t)
        drop_mm(k, t)
    sysvsem.left(k, t)
    t.files.drop(k)
    shstk.exit_thread(k, t)
    own = t.call is not None and t.call.name in _OWN_CALLS and t is runner
    _exit_notify(k, t)
    k.end_call(t, "no_return" if own else "killed", None)
    k.during, k.current = outer, runner


def _synchronize_group_exit(t: Task, status: int) -> None:
    """The last thread's status is the process's, unless exit_group or a signal has set one."""
    process = t.process
    rest = (task for task in process.tasks if task is not t)
    if process.exit_status is None and all(task.state in (ZOMBIE, DEAD) for task in rest):
        process.exit_status = status


def do_group_exit(k: Kernel, target: Task | Process, status: int) -> None:
    """End a process: first the task that exits or got the signal, then the others."""
    process = target if isinstance(target, Process) else target.process
    if process.exit_status is None:
        process.exit_status = status
    first = [target] if isinstance(target, Task) else []
    for t in (*first, *list(process.tasks)):
        do_exit(k, t, process.exit_status)


def mm_release(k: Kernel, t: Task) -> None:
    """A task releases its address space, at exit or at exec."""
    assert t.mm is not None
    futex.exit_robust_list(k, t)
    k.event("robust_done", t)
    shstk.deactivate_mm(k, t)
    if t.clear_child_tid and t.mm.users > 1:
        _clear_child_tid(k, t)
    t.clear_child_tid = 0
    if t.vfork_parent is not None:
        parent, t.vfork_parent = t.vfork_parent, None
        k.event("vfork_done", t, value=parent.tid)
        k.wake_key(("vfork", t))


def _clear_child_tid(k: Kernel, t: Task) -> None:
    """Wakes pthread_join. The kernel ignores the errors of put_user and do_futex."""
    addr = t.clear_child_tid
    try:
        usermem.put_u32(k, t, addr, 0)
        k.event("clear_child_tid", t, addr=addr, value=0)
    except Errno:
        pass
    woken = futex.wake(k, t, addr, 1)
    k.event("futex_wake", t, addr=addr, value=woken)


def drop_mm(k: Kernel, t: Task) -> None:
    """Drop the task's reference to its mm."""
    assert t.mm is not None
    mm, t.mm = t.mm, None
    k.event("mm_dropped", t, mm=mm.id, value=mm.users - 1)
    mmput(k, mm)


def mmput(k: Kernel, mm: Mm) -> None:
    """Drop one user of an mm. The last one frees the address space."""
    mm.users -= 1
    if mm.users == 0:
        del k.mms[mm.id]
        k.rec.row("mms", **mm.row(k.seq()))


def _exit_notify(k: Kernel, t: Task) -> None:
    process = t.process
    if t.vfork_child is not None and t.vfork_child.vfork_parent is t:
        t.vfork_child.vfork_parent = None
    signals.retarget(k, t, ~t.sigmask)
    leader = process.leader
    if t is not leader:
        _forget(k, t)
    if any(_lives(task) and not task.user_worker for task in process.tasks):
        return
    if left := [task for task in process.tasks if _lives(task)]:
        for worker in left:
            do_exit(k, worker, t.exit_status or 0)
    else:
        pidfd.changed(k, leader)
        _process_ended(k, process)


def _lives(t: Task) -> bool:
    return t.state not in (ZOMBIE, DEAD)


def _process_ended(k: Kernel, process: Process) -> None:
    """Reparent the children and notify the parent."""
    ptrace.tracer_gone(k, process)
    for child in list(process.children):
        _reparent(k, child)
    ptrace.process_ended(k, process)
    pty.session_ended(k, process)
    status = process.exit_status or 0
    parent = process.parent
    if parent is None or parent.outside:
        reap(k, process)
        return
    if process.exit_signal:
        code, value = CLD_EXITED, status >> 8
        if status & 0x7F:
            code, value = CLD_DUMPED if status & 0x80 else CLD_KILLED, status & 0x7F
        ignored = process.exit_signal == SIGCHLD and signals.reaps_itself(parent)
        signals.send(k, parent, process.exit_signal, code, sender=process.pid, value=value)
        if ignored:
            reap(k, process)
    elif process.autoreap:
        reap(k, process)
    k.wake_key(("child", parent.pid))


def _reparent(k: Kernel, child: Process) -> None:
    """To the nearest ancestor that is a child subreaper, else to init, which reaps at once."""
    assert child.parent is not None
    ancestor = child.parent.parent
    while ancestor is not None and not ancestor.child_subreaper:
        ancestor = ancestor.parent
    ancestor = ancestor or outside.init(k)
    child.parent.children.remove(child)
    child.parent = ancestor
    ancestor.children.append(child)
    k.wake_key(("child", ancestor.pid))
    if child.leader.pdeath_signal:
        signals.send(k, child, child.leader.pdeath_signal, 0)
    if (ancestor.outside or child.autoreap) and all(t.state in (ZOMBIE, DEAD) for t in child.tasks):
        reap(k, child)


def reap(k: Kernel, process: Process) -> None:
    """release_task: remove the zombie and free its pid."""
    leader, parent = process.leader, process.parent
    k.event(
        "reaped",
        leader,
        value=parent.leader.tid if parent and not parent.outside else None,
        status=process.exit_status,
    )
    if parent is not None:
        parent.children.remove(process)
        parent.children_cpu += process.with_children_cpu
    del k.processes[process.pid]
    leader.state = DEAD
    del k.tasks[leader.tid]
    pidfd.changed(k, leader)


def _forget(k: Kernel, t: Task) -> None:
    """A thread other than the leader doesn't stay as a zombie."""
    t.state = DEAD
    del k.tasks[t.tid]
    t.process.tasks.remove(t)
    t.process.exited_cpu += t.cpu
    pidfd.changed(k, t)


def _exit(k: Kernel, t: Task, a: Args, end: Callable[[Kernel, Task, int], None]) -> Outcome:
    status = (a[0] & 0xFF) << 8
    if (stop := ptrace.exiting(k, t, status)) is not None:
        return stop
    end(k, t, status)
    return NO_RETURN


def sys_exit(k: Kernel, t: Task, a: Args) -> Outcome:
    return _exit(k, t, a, do_exit)


def sys_exit_group(k: Kernel, t: Task, a: Args) -> Outcome:
    return _exit(k, t, a, do_group_exit)


CALLS = (Call("exit", sys_exit), Call("exit_group", sys_exit_group))
