"""Ptrace-stops: where a traced task stops, and how it goes on (kernel/ptrace.c, without the call).

A task stops at a signal; on its way to user mode, for what lies in `ptrace.traps`; or in the middle
of a call, which then sleeps and is tried again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import CLONE_UNTRACED, CLONE_VFORK, ERRNO, SI_USER
from shstk.tracer.kernel.call import End, Wait
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import CLD_TRAPPED, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, bit
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
_TRAP_TRACE: Final = 2
_ENOSYS: Final = 2**64 - ERRNO["ENOSYS"]


def _asks(t: Task, event: int) -> bool:
    """Whether the tracer wants to hear of an event: its PTRACE_O_TRACE* option is set."""
    return t.tracer is not None and bool(t.ptrace.options >> event & 1)


# Stopping.


def signal_stop(k: Kernel, t: Task, info: Siginfo) -> None:
    """ptrace_signal(): stop before `info` is acted upon; tell the tracer."""
    _stop(k, t, info.signo, info, "signal")


def _stop(k: Kernel, t: Task, code: int, info: Siginfo, kind: str) -> None:
    """code, kind: as a trap's."""
    assert t.tracer is not None
    t.ptrace.stop = PtraceStop(code << 8 | STOPPED_STATUS, info, kind)
    t.ptrace.step = ""
    if t.call is None or t.restart is not None:
        t.state = STOPPED
        k.sched.remove(t)
    signals.notify(k, t.tracer.process, t.tid, CLD_TRAPPED, info.signo)


def _trap_stop(k: Kernel, t: Task, trap: PtraceTrap) -> None:
    """ptrace_notify()."""
    t.ptrace.message = trap.message
    _stop(k, t, trap.code, Siginfo(SIGTRAP, trap.code, sender=t.pid), trap.kind)


def _in_call(t: Task) -> Wait:
    """The sleep of a task that stops before its call is done."""
    return Wait("ptrace", ("ptrace", t.tid), interruptible=False)


def stop_of(t: Task) -> PtraceStop:
    """Of a task that is stopped."""
    assert t.ptrace.stop is not None
    return t.ptrace.stop


def later(t: Task, trap: PtraceTrap) -> None:
    """Stop on the way to user mode."""
    t.ptrace.traps.append(trap)


def group_stop(t: Task, signo: int) -> None:
    """A traced task of a process that job control stops: to its tracer it is one stop more."""
    if t.ptrace.seized:
        later(t, PtraceTrap(EVENT_STOP << 8 | signo))
    else:
        later(t, PtraceTrap(signo, kind="group"))


def stop_for_trap(k: Kernel, t: Task) -> bool:
    """What `later` left; whether the task has stopped now."""
    if not t.ptrace.traps or t.tracer is None:
        return False
    _trap_stop(k, t, t.ptrace.traps.pop(0))
    return True


# Going on.


def resume(k: Kernel, t: Task, signo: int) -> None:
    """Let a stopped task go on with a signal: the one it stopped at, another, or 0 for none."""
    stop = stop_of(t)
    if signo:
        assert t.tracer is not None
        own = stop.info.signo == signo and stop.kind == "signal"
        sent = stop.info if own else Siginfo(signo, SI_USER, t.tracer.process.pid)
        if stop.kind == "signal":
            t.ptrace.resumed = sent
        elif stop.info.code & ~_SYSCALL == SIGTRAP:  # an event's stop takes no signal along
            signals.queue(k, t, sent)
    release(k, t)


def release(k: Kernel, t: Task) -> None:
    """Out of the ptrace-stop, whatever becomes of the signal."""
    t.ptrace.stop = None
    if t.state == STOPPED:
        signals.run_on(k, t)
    elif t.state == BLOCKED:
        k.wake_key(("ptrace", t.tid))


def take_resumed(k: Kernel, t: Task) -> Siginfo | None:
    """The signal the tracer let through; if the task blocks it by now, it waits in the queue."""
    info, t.ptrace.resumed = t.ptrace.resumed, None
    if info is not None and t.sigmask & bit(info.signo):
        signals.queue(k, t, info)
        return None
    return info


# Who traces whom.


def attach(k: Kernel, t: Task, tracer: Task, options: int, seized: bool) -> None:
    t.tracer = tracer
    t.ptrace.options, t.ptrace.seized = options, seized
    if seized:
        return
    if t.state == STOPPED:  # by job control: it is only told of
        signal_stop(k, t, Siginfo(SIGSTOP, SI_USER, sender=tracer.pid))
    else:
        signals.send(k, t, SIGSTOP, SI_USER, sender=tracer.pid)


def detach(k: Kernel, t: Task, signo: int) -> None:
    resume(k, t, signo)
    t.tracer = None
    # It goes on with the signal it got, and with the call before which it had stopped.
    t.ptrace = PtraceState(resumed=t.ptrace.resumed, entering=t.ptrace.entering)


def tracer_gone(k: Kernel, tracer: Process) -> None:
    """exit_ptrace(): its tracees run on, with the signal they stopped at, or are killed."""
    for t in list(k.tasks.values()):
        if t.tracer is None or t.tracer.process is not tracer:
            continue
        if t.ptrace.options & O_EXITKILL:
            signals.send(k, t, SIGKILL, SI_USER)
        if (stop := t.ptrace.stop) is not None:
            detach(k, t, stop.info.signo if stop.kind == "signal" else 0)
        t.tracer = None


def ended(k: Kernel, t: Task) -> None:
    """A task exits: it is in no stop any more, and its tracer's wait hears of it."""
    t.ptrace.stop = None
    if t is not t.process.leader:
        _tell_end(k, t, t.exit_status or 0)


def process_ended(k: Kernel, process: Process) -> None:
    """The parent's wait hears of a process anyway."""
    leader = process.leader
    if leader.tracer is not None and leader.tracer.process is not process.parent:
        _tell_end(k, leader, process.exit_status or 0)


def _tell_end(k: Kernel, t: Task, status: int) -> None:
    if t.tracer is None:
        return
    tracer, t.tracer = t.tracer.process, None
    tracer.tracee_ends.append(TraceeEnd(t.tid, status, t.icount))
    k.wake_key(("child", tracer.pid))


def forked(k: Kernel, t: Task, child: Task, flags: int, exit_signal: int) -> Wait | None:
    """ptrace_event_pid() of a fork. Whom the tracer follows stops at once, and so does its child,
    which is traced too."""
    event = EVENT_FORK if exit_signal == SIGCHLD else EVENT_CLONE
    if flags & CLONE_VFORK:
        event = EVENT_VFORK
    if flags & CLONE_UNTRACED or not _asks(t, event):
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
    if _asks(t, EVENT_VFORK_DONE):
        later(t, PtraceTrap(EVENT_VFORK_DONE << 8 | SIGTRAP, child))


def exec_done(k: Kernel, t: Task) -> None:
    """A traced task stops after execve: by an event, or as if by SIGTRAP."""
    if _asks(t, EVENT_EXEC):
        later(t, PtraceTrap(EVENT_EXEC << 8 | SIGTRAP, t.tid))
    elif t.tracer is not None and not t.ptrace.seized:
        signals.send(k, t, SIGTRAP, SI_USER, sender=t.process.pid)


def exiting(k: Kernel, t: Task, status: int) -> Wait | None:
    """A task that calls exit or exit_group stops while all of it is still there."""
    if not _asks(t, EVENT_EXIT) or t.ptrace.exiting:
        return None
    t.ptrace.exiting = True
    _trap_stop(k, t, PtraceTrap(EVENT_EXIT << 8 | SIGTRAP, status))
    return _in_call(t)


# Stops at calls, and after each instruction.


def _call_code(t: Task) -> int:
    return SIGTRAP | _SYSCALL * (t.ptrace.options & O_TRACESYSGOOD)


def enter_call(k: Kernel, t: Task) -> Wait | None:
    """PTRACE_SYSCALL's stop before a call; afterwards, what the tracer made of its registers.

    a0 shows -ENOSYS meanwhile; what it was, the tracer can't change (orig_a0).
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
        value = result if isinstance(result, int) else 0
        t.ptrace.syscall = (2, value & 2**64 - 1, int(value < 0))
        later(t, PtraceTrap(_call_code(t), 2))


def stepping(t: Task) -> bool:
    """Whether the next instruction is to be the only one."""
    return t.ptrace.step == "wanted"


def stepped(t: Task) -> None:
    """It has run; a call is yet to be done."""
    t.ptrace.step = "done"


def report_step(k: Kernel, t: Task) -> None:
    """Before user mode: the SIGTRAP after an instruction. (Mainline's RISC-V has no hardware for
    it and answers EIO to PTRACE_SINGLESTEP; debuggers then set breakpoints.)"""
    if t.ptrace.step == "done" and (t.call is None or t.restart is not None):
        t.ptrace.step = ""
        signals.force_fault(k, t, SIGTRAP, _TRAP_TRACE, t.hart.pc)
