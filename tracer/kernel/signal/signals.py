"""Sending signals: queue one, choose the thread that takes it, and wake it (kernel/signal.c).

`Task.sigpending` (TIF_SIGPENDING) is set if the task has a signal to take. A signal for a process
is taken by the thread chosen for it, not by the first one to enter the kernel. deliver.py delivers
signals on the return to user mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import CLD_CONTINUED, SI_TIMER, SI_USER
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.signal.siginfo import (
    CORE_DUMPING,
    DEFAULT_IGNORED,
    NEVER_BLOCKED,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGRTMIN,
    SIGTRAP,
    STOPS,
    SYNCHRONOUS,
    bit,
)
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.task import (
    BLOCKED,
    DEAD,
    RUNNABLE,
    STOPPED,
    ZOMBIE,
    Process,
    PtraceTrap,
    SigAction,
    Siginfo,
    SignalTimer,
    Task,
)

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.files import OpenFile
    from shstk.tracer.kernel.kernel import Kernel

_EVENT_STOP: Final = 128  # PTRACE_EVENT_STOP
SIG_DFL: Final = 0
SIG_IGN: Final = 1
SA_NOCLDSTOP: Final = 0x1
SA_NOCLDWAIT: Final = 0x2


class SignalFiles:
    """The open signalfds. Any signal sent may make one readable."""

    def __init__(self) -> None:
        self.opened: dict[OpenFile, None] = {}


SIGNAL_FILES: Final = Slot(SignalFiles)


# Sending.


def check_permission(sender: Process, target: Task | Process, signo: int) -> None:
    """check_kill_permission(). Errno EPERM: another user's process; SIGCONT may be sent within a
    session."""
    group = target if isinstance(target, Process) else target.process
    if group.uid != sender.uid and not (signo == SIGCONT and group.sid == sender.sid):
        raise Errno("EPERM")


def send(
    k: Kernel,
    target: Task | Process,
    signo: int,
    code: int,
    *,
    sender: int | None = None,
    si_addr: int | None = None,
    value: int | None = None,
    forced: bool = False,
) -> None:
    """Queue a signal for a thread or a process. forced: it can't be blocked or ignored."""
    info = Siginfo(signo, code, sender, si_addr, value or 0)
    if forced:
        assert isinstance(target, Task), "a forced signal needs a thread"
        force(k, target, info)
    else:
        queue(k, target, info)


def force_fault(k: Kernel, t: Task, signo: int, code: int, si_addr: int) -> None:
    """force_sig_fault(): the signal of an exception."""
    force(k, t, Siginfo(signo, code, si_addr=si_addr))


def force(k: Kernel, t: Task, info: Siginfo, *, fatal: bool = False) -> None:
    """force_sig_info(): reset a blocked or ignored signal to its default action, then queue it.

    fatal: reset the action in any case.
    """
    action = t.process.sighand.actions.get(info.signo, SigAction())
    blocked = bool(t.sigmask & bit(info.signo))
    if fatal or blocked or action.handler == SIG_IGN:
        t.process.sighand.actions[info.signo] = SigAction()
        t.sigmask &= ~bit(info.signo)
    queue(k, t, info)
    recalc(t)  # the signal may have been pending and blocked before


def queue(k: Kernel, target: Task | Process, info: Siginfo) -> bool:
    """send_signal(): False only if a real-time signal exceeds RLIMIT_SIGPENDING."""
    group = target if isinstance(target, Process) else target.process
    task = target if isinstance(target, Task) else target.leader
    dying = group.exit_status is not None or group.killed is not None
    if group.outside or dying or (task is target and task.state in (ZOMBIE, DEAD)):
        return True
    if bit(info.signo) & STOPS:
        discard(group, bit(SIGCONT))
    elif info.signo == SIGCONT:
        discard(group, STOPS)
        _continue(k, group)
    if _ignored(task, info.signo):
        return True
    of_posix_timer = info.code == SI_TIMER  # queued always: its sigqueue is preallocated
    if info.signo < SIGRTMIN and not of_posix_timer:
        if any(p.signo == info.signo for p in target.pending):
            return True  # standard signals do not queue
    elif info.code != SI_USER and not of_posix_timer:
        queued = len(group.pending) + sum(len(t.pending) for t in group.tasks)
        if queued >= group.rlimits["SIGPENDING"][0]:
            return False
    target.pending.append(info)
    for file in SIGNAL_FILES.of(k).opened:
        file.notify(k)
    _wake_one(k, target, info)
    return True


def discard(process: Process, signals: int) -> None:
    """Remove a set of signals from the queues of the group and of its threads."""
    holders: list[Task | Process] = [process, *process.tasks]
    for holder in holders:
        holder.pending = [p for p in holder.pending if not bit(p.signo) & signals]


def shut_out(t: Task, signo: int) -> bool:
    """is_ignored() of drivers/tty: the task blocks the signal, or its process ignores it."""
    action = t.process.sighand.actions.get(signo, SigAction())
    return bool(t.sigmask & bit(signo)) or action.handler == SIG_IGN


def _ignored(t: Task, signo: int) -> bool:
    if (t.sigmask | t.real_blocked) & bit(signo) or (t.tracer and signo != SIGKILL):
        return False
    handler = t.process.sighand.actions.get(signo, SigAction()).handler
    return handler == SIG_IGN or (handler == SIG_DFL and bool(bit(signo) & DEFAULT_IGNORED))


def _wake_one(k: Kernel, target: Task | Process, info: Siginfo) -> None:
    """complete_signal(): the leader if it wants the signal, else another thread of the group."""
    candidates = target.tasks if isinstance(target, Process) else [target]
    for t in candidates:
        if t.state in (ZOMBIE, DEAD) or not _wants(t, info.signo):
            continue
        if _ends_group(t, info.signo):
            _kill_group(k, t.process, info)
        else:
            t.sigpending = True
            if t.state == BLOCKED and t.blocked is not None and t.blocked.interruptible:
                k.wake(t, "signal")
        return


def _wants(t: Task, signo: int) -> bool:
    return signo == SIGKILL or (t.state != STOPPED and not t.sigmask & bit(signo))


def _ends_group(t: Task, signo: int) -> bool:
    """Whether the signal kills the group when it is sent. Core dumps wait until delivery."""
    if signo == SIGKILL:
        return True
    handler = t.process.sighand.actions.get(signo, SigAction()).handler
    harmless = bit(signo) & (STOPS | DEFAULT_IGNORED | CORE_DUMPING)
    waits_for_it = t.real_blocked & bit(signo)
    return handler == SIG_DFL and not (harmless or waits_for_it or t.tracer)


def _kill_group(k: Kernel, process: Process, info: Siginfo) -> None:
    """Wake every thread, whatever it blocks or waits for. The first to run ends them all."""
    process.killed = info
    for t in process.tasks:
        if t.state in (ZOMBIE, DEAD):
            continue
        t.sigpending = True
        t.ptrace.stop = None
        if t.state == STOPPED:
            run_on(k, t)
        elif t.state == BLOCKED:
            k.wake(t, "signal")


# Masks and queues.


def has_pending(t: Task) -> bool:
    """signal_pending(): this thread has a signal to take."""
    return t.sigpending


def pending_set(holders: Iterable[Task | Process]) -> int:
    """The pending signals as a sigset_t."""
    signals = 0
    for holder in holders:
        for info in holder.pending:
            signals |= bit(info.signo)
    return signals


def set_mask(k: Kernel, t: Task, mask: int) -> None:
    """set_current_blocked(). Another thread may take the group's signals that `t` now blocks."""
    newly = mask & ~t.sigmask
    t.sigmask = mask & ~NEVER_BLOCKED
    recalc(t)
    if t.sigmask & newly:
        retarget(k, t, newly)


def recalc(t: Task) -> None:
    """recalc_sigpending()."""
    waiting = pending_set((t, t.process)) & ~t.sigmask
    t.sigpending = bool(waiting) or t.process.killed is not None


def retarget(k: Kernel, t: Task, signals: int) -> None:
    """retarget_shared_pending(): `t` blocks these signals, or exits, so other threads take them."""
    for info in [p for p in t.process.pending if bit(p.signo) & signals]:
        _wake_one(k, t.process, info)


def forget(target: Task | Process, timer: SignalTimer) -> None:
    """Drop what a timer has queued."""
    target.pending = [p for p in target.pending if p.timer is not timer]
    for t in (target,) if isinstance(target, Task) else target.tasks:
        recalc(t)


def is_queued(process: Process, timer: SignalTimer) -> bool:
    """Whether a timer's signal is pending, for the process or for one of its threads."""
    holders: tuple[Task | Process, ...] = (process, *process.tasks)
    return any(p.timer is timer for holder in holders for p in holder.pending)


def dequeue(k: Kernel, t: Task, mask: int) -> Siginfo | None:
    """dequeue_signal(): the next one outside `mask`, the thread's own before the group's."""
    for holder in (t, t.process):
        ready = [p for p in holder.pending if not bit(p.signo) & mask]
        if ready:
            chosen = min(ready, key=lambda p: (not bit(p.signo) & SYNCHRONOUS, p.signo))
            # Not list.remove, which compares: two equal infos are two signals.
            holder.pending = [p for p in holder.pending if p is not chosen]
            recalc(t)
            if chosen.timer is not None:
                chosen.timer.taken(k, chosen)
            return chosen
    recalc(t)
    return None


# Stopping and continuing a process.


def _continue(k: Kernel, process: Process) -> None:
    if not process.stopped:
        return
    process.stopped = False
    process.stop_status = None
    process.continued = True
    for t in process.tasks:
        stop = t.ptrace.stop
        if t.ptrace.seized and stop is not None:  # ptrace_trap_notify()
            t.ptrace.traps.append(PtraceTrap(_EVENT_STOP << 8 | SIGTRAP))
            if stop.listening:
                t.ptrace.stop = None
        if t.state == STOPPED and t.ptrace.stop is None:
            run_on(k, t)
    notify(k, process.parent, process.pid, CLD_CONTINUED, SIGCONT)


def run_on(k: Kernel, t: Task) -> None:
    """Make a stopped task runnable, with the signals sent while it was stopped."""
    t.state = RUNNABLE
    recalc(t)
    k.sched.add(t)


def notify(k: Kernel, to: Process | None, about: int, code: int, status: int) -> None:
    """do_notify_parent_cldstop(): wake its waits; send SIGCHLD unless SA_NOCLDSTOP is set."""
    if to is None:
        return
    action = to.sighand.actions.get(SIGCHLD, SigAction())
    if action.handler != SIG_IGN and not action.flags & SA_NOCLDSTOP:
        send(k, to, SIGCHLD, code, sender=about, value=status)
    k.wake_key(("child", to.pid))


def reaps_itself(parent: Process) -> bool:
    """Whether children of `parent` leave no zombie: SIGCHLD is ignored or has SA_NOCLDWAIT."""
    action = parent.sighand.actions.get(SIGCHLD, SigAction())
    return action.handler == SIG_IGN or bool(action.flags & SA_NOCLDWAIT)
