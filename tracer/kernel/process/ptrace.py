"""Ptrace-stops: where a tracee stops, and how it is resumed (kernel/ptrace.c without the call).

A task stops at a signal; on its return to user mode, for the first of `ptrace.traps`; or in the
middle of a call, which then blocks and is retried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import CLD_TRAPPED, CLONE_UNTRACED, CLONE_VFORK, ERRNO, SI_USER
from shstk.tracer.kernel.call import End, Wait
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, bit
from shstk.tracer.kernel.task import (
    BLOCKED,
    STOPPED,
    Process,
    PtraceState,
    PtraceStop,
    PtraceTrap,
    Siginfo,
    Task,
    TraceeEnd,
)

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

STOPPED_STATUS: Final = 0x7F  # of a wait status: stopped, by the signal in the next byte
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_VFORK_DONE, EVENT_EXIT = range(1, 7)
EVENT_STOP: Final = 128
O_TRACESYSGOOD: Final = 1
O_EXITKILL: Final = 1 << 20
_SYSCALL: Final = 0x80  # in a stop's signal, with O_TRACESYSGOOD
_ENOSYS: Final = 2**64 - ERRNO["ENOSYS"]


def may_access(t: Task, target: Task) -> bool:
    """ptrace_may_access(): of one's own tasks, whether the target is dumpable decides."""
    process = target.process
    return process is t.process or (process.uid == t.process.uid and process.dumpable == 1)


def _event_enabled(t: Task, event: int) -> bool:
    """ptrace_event_enabled(): the event's PTRACE_O_TRACE* option is set."""
    return t.tracer is not None and bool(t.ptrace.options >> event & 1)


# Stopping.


def signal_stop(k: Kernel, t: Task, info: Siginfo) -> None:
    """ptrace_signal(): stop before `info` is delivered, and notify the tracer."""
    _stop(k, t, info.signo, info, "signal")


def _stop(k: Kernel, t: Task, code: int, info: Siginfo, kind: str) -> None:
    """code, kind: as in PtraceTrap."""
    assert t.tracer is not None
    t.ptrace.stop = PtraceStop(code << 8 | STOPPED_STATUS, info, kind)
    if t.call is None or t.restart is not None:
        t.state = STOPPED
        k.sched.remove(t)
    signals.notify(k, t.tracer.process, t.tid, CLD_TRAPPED, info.signo)


def _trap_stop(k: Kernel, t: Task, trap: PtraceTrap) -> None:
    """ptrace_notify()."""
    t.ptrace.message = trap.message
    signo = trap.code & 0x7F if trap.code >> 8 == EVENT_STOP else SIGTRAP
    _stop(k, t, trap.code, Siginfo(signo, trap.code, sender=t.pid), trap.kind)


def _in_call(t: Task) -> Wait:
    """For a task that stops in the middle of its call."""
    return Wait("ptrace", ("ptrace", t.tid), interruptible=False)


def stop_of(t: Task) -> PtraceStop:
    """The stop of a stopped task."""
    assert t.ptrace.stop is not None
    return t.ptrace.stop


def later(t: Task, trap: PtraceTrap) -> None:
    """Stop on the return to user mode."""
    t.ptrace.traps.append(trap)


def group_stop(t: Task, signo: int) -> None:
    """Job control stops the process of a tracee: the tracee stops for its tracer as well."""
    if t.ptrace.seized:
        later(t, PtraceTrap(EVENT_STOP << 8 | signo))
    else:
        later(t, PtraceTrap(signo, kind="group"))


def interrupt(k: Kernel, t: Task) -> None:
    """Stop a seized task where it is: by the signal of its group's stop, else by SIGTRAP. If its
    call is interruptible, the call is interrupted."""
    stop = t.ptrace.stop
    if stop is None or stop.listening:
        signo = stop.info.signo if stop is not None and t.process.stopped else SIGTRAP
        later(t, PtraceTrap(EVENT_STOP << 8 | signo))
    if stop is not None and stop.listening:
        release(k, t)
    elif t.state == BLOCKED and stop is None and t.blocked is not None and t.blocked.interruptible:
        k.wake(t, "signal")


def stop_for_trap(k: Kernel, t: Task) -> bool:
    """Stop for the first trap queued by `later`. False if there is none."""
    if not t.ptrace.traps or t.tracer is None:
        return False
    _trap_stop(k, t, t.ptrace.traps.pop(0))
    return True


# Resuming.


def resume(k: Kernel, t: Task, signo: int) -> None:
    """Resume a stopped task with a signal: the one it stopped at, another, or 0 for none."""
    stop = stop_of(t)
    if signo:
        assert t.tracer is not None
        own = stop.info.signo == signo and stop.kind == "signal"
        sent = stop.info if own else Siginfo(signo, SI_USER, t.tracer.process.pid)
        if stop.kind == "signal":
            t.ptrace.resumed = sent
        elif stop.info.code & ~_SYSCALL == SIGTRAP:  # event stops ignore the signal
            signals.queue(k, t, sent)
    release(k, t)


def release(k: Kernel, t: Task) -> None:
    """End the ptrace-stop. The caller handles the signal."""
    t.ptrace.stop = None
    if t.state == STOPPED:
        signals.run_on(k, t)
    elif t.state == BLOCKED:
        k.wake_key(("ptrace", t.tid))


def take_resumed(k: Kernel, t: Task) -> Siginfo | None:
    """The signal that the tracer delivers. It is queued again if the task blocks it by now."""
    info, t.ptrace.resumed = t.ptrace.resumed, None
    if info is not None and t.sigmask & bit(info.signo):
        signals.queue(k, t, info)
        return None
    return info


# Attaching and detaching.


def attach(k: Kernel, t: Task, tracer: Task, options: int, seized: bool) -> None:
    t.tracer = tracer
    t.ptrace.options, t.ptrace.seized = options, seized
    if seized:
        return
    if t.state == STOPPED:  # by job control: only report the stop
        signal_stop(k, t, Siginfo(SIGSTOP, SI_USER, sender=tracer.pid))
    else:
        signals.send(k, t, SIGSTOP, SI_USER, sender=tracer.pid)


def detach(k: Kernel, t: Task, signo: int) -> None:
    resume(k, t, signo)
    t.tracer = None
    # It resumes with this signal, and with the call before which it had stopped.
    t.ptrace = PtraceState(resumed=t.ptrace.resumed, entering=t.ptrace.entering)


def tracer_gone(k: Kernel, tracer: Process) -> None:
    """exit_ptrace(): let the tracees go, or kill them. A signal that a wait has reported is lost:
    the wait took it out of `exit_code`, for the tracer to give it back."""
    for t in list(k.tasks.values()):
        if t.tracer is None or t.tracer.process is not tracer:
            continue
        if t.ptrace.options & O_EXITKILL:
            signals.send(k, t, SIGKILL, SI_USER)
        if (stop := t.ptrace.stop) is not None:
            lost = stop.reported or stop.kind != "signal"
            detach(k, t, 0 if lost else stop.info.signo)
        else:
            t.tracer, t.ptrace = None, PtraceState()


def ended(k: Kernel, t: Task) -> None:
    """A task exits: end its stop, and report it to the tracer's wait."""
    t.ptrace.stop = None
    if t is not t.process.leader:
        _report_end(k, t, t.exit_status or 0)


def process_ended(k: Kernel, process: Process) -> None:
    """Report the end of a process to its tracer, unless that is the parent, whose wait sees it."""
    leader = process.leader
    if leader.tracer is not None and leader.tracer.process is not process.parent:
        _report_end(k, leader, process.exit_status or 0)


def _report_end(k: Kernel, t: Task, status: int) -> None:
    if t.tracer is None:
        return
    tracer, t.tracer = t.tracer.process, None
    tracer.tracee_ends.append(TraceeEnd(t.tid, status, t.process.with_children_cpu))
    k.wake_key(("child", tracer.pid))


def forked(k: Kernel, t: Task, child: Task, flags: int, exit_signal: int) -> Wait | None:
    """ptrace_event_pid() at fork: if the tracer follows it, parent and child stop at once.

    The child becomes a tracee too.
    """
    event = EVENT_FORK if exit_signal == SIGCHLD else EVENT_CLONE
    if flags & CLONE_VFORK:
        event = EVENT_VFORK
    if flags & CLONE_UNTRACED or not _event_enabled(t, event):
        return None
    child.tracer = t.tracer
    child.ptrace = PtraceState(options=t.ptrace.options, seized=t.ptrace.seized)
    if t.ptrace.seized:
        later(child, PtraceTrap(EVENT_STOP << 8 | SIGTRAP))
    else:
        signals.send(k, child, SIGSTOP, SI_USER)
    _trap_stop(k, t, PtraceTrap(event << 8 | SIGTRAP, child.tid))
    return _in_call(t)


def vfork_done(t: Task, child: int) -> None:
    if _event_enabled(t, EVENT_VFORK_DONE):
        later(t, PtraceTrap(EVENT_VFORK_DONE << 8 | SIGTRAP, child))


def exec_done(k: Kernel, t: Task) -> None:
    """A tracee stops after execve: for the event, or for a SIGTRAP."""
    if _event_enabled(t, EVENT_EXEC):
        later(t, PtraceTrap(EVENT_EXEC << 8 | SIGTRAP, t.tid))
    elif t.tracer is not None and not t.ptrace.seized:
        signals.send(k, t, SIGTRAP, SI_USER, sender=t.process.pid)


def exiting(k: Kernel, t: Task, status: int) -> Wait | None:
    """A task that calls exit or exit_group stops before it releases anything."""
    if not _event_enabled(t, EVENT_EXIT) or t.ptrace.exiting:
        return None
    t.ptrace.exiting = True
    _trap_stop(k, t, PtraceTrap(EVENT_EXIT << 8 | SIGTRAP, status))
    return _in_call(t)


# Stops at calls.


def _call_code(t: Task) -> int:
    return SIGTRAP | _SYSCALL * (t.ptrace.options & O_TRACESYSGOOD)


def enter_call(k: Kernel, t: Task) -> Wait | None:
    """PTRACE_SYSCALL's stop before a call. Afterwards, take the number and the arguments from the
    registers, which the tracer may have changed.

    During the stop a0 is -ENOSYS. The tracer can't change its former value (orig_a0).
    """
    call, hart, state = t.call, t.hart, t.ptrace
    assert call is not None
    if state.entering:
        state.entering = False
        *args, call.nr = hart.args()
        call.args = (call.args[0], args[1], args[2], args[3], args[4], args[5])
        assert t.blocked is not None
        t.blocked.woken = None
        return None
    if t.tracer is None or not state.calls or state.entered == call.seq:
        return None
    if t.blocked is None or t.blocked.woken is not None:
        return None
    state.entering, state.entered = True, call.seq
    state.syscall = (1, call.nr, *call.args)
    hart.set_x(10, _ENOSYS)
    _trap_stop(k, t, PtraceTrap(_call_code(t), 1))
    return _in_call(t)


def leave_call(t: Task, result: int | End) -> None:
    """PTRACE_SYSCALL's stop after a call."""
    if t.tracer is not None and t.ptrace.calls:
        value = result if isinstance(result, int) else -result.value
        t.ptrace.syscall = (2, value & 2**64 - 1, int(value < 0))
        later(t, PtraceTrap(_call_code(t), 2))
