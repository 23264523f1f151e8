"""Ptrace-stops: where a traced task stops, and how it goes on (kernel/ptrace.c, without the call).

A stopped task has `ptrace_stop`, the status its tracer's wait gets, and `ptrace["info"]`, what
GETSIGINFO shows. It stops at a signal; on its way to user mode for what lies in `ptrace["traps"]`;
or in the middle of a call, which then sleeps and is tried again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import End, Wait
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import (
    CLD_TRAPPED,
    SI_USER,
    SIGCHLD,
    SIGKILL,
    SIGSTOP,
    SIGTRAP,
    bit,
)
from shstk.tracer.kernel.task import BLOCKED, STOPPED, Process, Siginfo, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

STOPPED_STATUS: Final = 0x7F  # of a wait status: stopped, by the signal in the next byte
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_VFORK_DONE, EVENT_EXIT = range(1, 7)
EVENT_STOP: Final = 128
O_TRACESYSGOOD: Final = 1
O_EXITKILL: Final = 1 << 20
_SYSCALL: Final = 0x80  # in a stop's signal, with O_TRACESYSGOOD
_TRAP_TRACE: Final = 2
_CLONE_UNTRACED: Final = 0x0080_0000
_CLONE_VFORK: Final = 0x4000
_ENOSYS: Final = 2**64 - 38
_KEPT: Final = ("options", "seized")  # of Task.ptrace, what a new task has from its parent


def _asks(t: Task, event: int) -> bool:
    """Whether the tracer wants to hear of an event: its PTRACE_O_TRACE* option is set."""
    return t.tracer is not None and bool(t.ptrace.get("options", 0) >> event & 1)


# Stopping.


def signal_stop(k: Kernel, t: Task, info: Siginfo) -> None:
    """ptrace_signal(): stop before `info` is acted upon; tell the tracer."""
    _stop(k, t, info.signo, info, "signal")


def _stop(k: Kernel, t: Task, code: int, info: Siginfo, kind: str) -> None:
    """code: what the wait status shows, a signal with an event above it. kind: "signal", "trap"
    (an event or a call) or "group"."""
    assert t.tracer is not None
    t.ptrace_stop = code << 8 | STOPPED_STATUS
    t.ptrace_reported = False
    t.ptrace |= {"info": info, "kind": kind}
    t.ptrace.pop("step", None)
    if t.call is None or t.restart is not None:
        t.state = STOPPED
        k.sched.remove(t)
    signals.notify(k, t.tracer.process, t.tid, CLD_TRAPPED, info.signo)


def _trap_stop(k: Kernel, t: Task, code: int, message: int = 0, kind: str = "trap") -> None:
    """ptrace_notify()."""
    t.ptrace["message"] = message
    _stop(k, t, code, Siginfo(SIGTRAP, code, sender=t.pid), kind)


def _in_call(t: Task) -> Wait:
    """The sleep of a task that stops before its call is done."""
    return Wait("ptrace", ("ptrace", t.tid), interruptible=False)


def is_stopped(t: Task) -> bool:
    return t.ptrace_stop is not None


def later(t: Task, code: int, message: int = 0, kind: str = "trap") -> None:
    """Stop on the way to user mode."""
    t.ptrace.setdefault("traps", []).append((code, message, kind))


def group_stop(t: Task, signo: int) -> None:
    """A traced task of a process that job control stops: to its tracer it is one stop more."""
    if t.ptrace.get("seized"):
        later(t, EVENT_STOP << 8 | signo)
    else:
        later(t, signo, kind="group")


def stop_for_trap(k: Kernel, t: Task) -> bool:
    """What `later` left; whether the task has stopped now."""
    traps: list[tuple[int, int, str]] = t.ptrace.get("traps", [])
    if not traps or t.tracer is None:
        return False
    _trap_stop(k, t, *traps.pop(0))
    return True


# Going on.


def resume(k: Kernel, t: Task, signo: int) -> None:
    """Let a stopped task go on with a signal: the one it stopped at, another, or 0 for none."""
    info: Siginfo = t.ptrace["info"]
    if signo:
        assert t.tracer is not None
        own = info.signo == signo and t.ptrace["kind"] == "signal"
        sent = info if own else Siginfo(signo, SI_USER, t.tracer.process.pid)
        if t.ptrace["kind"] == "signal":
            t.ptrace["resume"] = sent
        elif info.code in (SIGTRAP, SIGTRAP | _SYSCALL):  # an event's stop takes no signal along
            signals.queue(k, t, sent)
    release(k, t)


def release(k: Kernel, t: Task) -> None:
    """Out of the ptrace-stop, whatever becomes of the signal."""
    t.ptrace_stop = None
    t.ptrace.pop("info", None)
    if t.state == STOPPED:
        signals.run_on(k, t)
    elif t.state == BLOCKED:
        k.wake_key(("ptrace", t.tid))


def take_resumed(k: Kernel, t: Task) -> Siginfo | None:
    """The signal the tracer let through; if the task blocks it by now, it waits in the queue."""
    info: Siginfo | None = t.ptrace.pop("resume", None)
    if info is not None and t.sigmask & bit(info.signo):
        signals.queue(k, t, info)
        return None
    return info


# Who traces whom.


def attach(k: Kernel, t: Task, tracer: Task, options: int, seized: bool) -> None:
    t.tracer = tracer
    t.ptrace |= {"options": options, "seized": seized}
    if seized:
        return
    if t.state == STOPPED:  # by job control: it is only told of
        signal_stop(k, t, Siginfo(SIGSTOP, SI_USER, sender=tracer.pid))
    else:
        signals.send(k, t, SIGSTOP, SI_USER, sender=tracer.pid)


def detach(k: Kernel, t: Task, signo: int) -> None:
    resume(k, t, signo)
    t.tracer = None
    resumed = t.ptrace.get("resume")
    t.ptrace = {} if resumed is None else {"resume": resumed}


def tracer_gone(k: Kernel, tracer: Process) -> None:
    """exit_ptrace(): its tracees run on, with the signal they stopped at, or are killed."""
    for t in list(k.tasks.values()):
        if t.tracer is None or t.tracer.process is not tracer:
            continue
        if t.ptrace.get("options", 0) & O_EXITKILL:
            signals.send(k, t, SIGKILL, SI_USER)
        if is_stopped(t):
            signal = t.ptrace["kind"] == "signal"
            detach(k, t, t.ptrace["info"].signo if signal else 0)
        t.tracer = None


def ended(k: Kernel, t: Task) -> None:
    """A task exits: it is in no stop any more, and its tracer's wait hears of it."""
    t.ptrace_stop = None
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
    tracer.tracee_ends.append((t.tid, status, t.icount))
    k.wake_key(("child", tracer.pid))


def forked(k: Kernel, t: Task, child: Task, flags: int, exit_signal: int) -> Wait | None:
    """ptrace_event_pid() of a fork. Whom the tracer follows stops at once, and so does its child,
    which is traced too."""
    event = EVENT_FORK if exit_signal == SIGCHLD else EVENT_CLONE
    if flags & _CLONE_VFORK:
        event = EVENT_VFORK
    if flags & _CLONE_UNTRACED or not _asks(t, event):
        return None
    child.tracer = t.tracer
    child.ptrace = {name: t.ptrace[name] for name in _KEPT}
    if t.ptrace["seized"]:
        later(child, EVENT_STOP << 8 | SIGTRAP)
    else:
        signals.send(k, child, SIGSTOP, SI_USER)
    _trap_stop(k, t, event << 8 | SIGTRAP, child.tid)
    return _in_call(t)


def vfork_done(t: Task, child: int) -> None:
    if _asks(t, EVENT_VFORK_DONE):
        later(t, EVENT_VFORK_DONE << 8 | SIGTRAP, child)


def exec_done(k: Kernel, t: Task) -> None:
    """A traced task stops after execve: by an event, or as if by SIGTRAP."""
    if _asks(t, EVENT_EXEC):
        later(t, EVENT_EXEC << 8 | SIGTRAP, t.tid)
    elif t.tracer is not None and not t.ptrace.get("seized"):
        signals.send(k, t, SIGTRAP, SI_USER, sender=t.process.pid)


def exiting(k: Kernel, t: Task, status: int) -> Wait | None:
    """A task that calls exit or exit_group stops while all of it is still there."""
    if not _asks(t, EVENT_EXIT) or t.ptrace.get("exiting"):
        return None
    t.ptrace["exiting"] = True
    _trap_stop(k, t, EVENT_EXIT << 8 | SIGTRAP, status)
    return _in_call(t)


# Stops at calls, and after each instruction.


def _call_code(t: Task) -> int:
    options: int = t.ptrace.get("options", 0)
    return SIGTRAP | _SYSCALL * (options & O_TRACESYSGOOD)


def enter_call(k: Kernel, t: Task) -> Wait | None:
    """PTRACE_SYSCALL's stop before a call; afterwards, what the tracer made of its registers.

    a0 shows -ENOSYS meanwhile; what it was, the tracer can't change (orig_a0).
    """
    call, hart = t.call, t.hart
    assert call is not None
    if t.ptrace.pop("entering", False):
        *args, call.nr = hart.args()
        call.args = (call.args[0], args[1], args[2], args[3], args[4], args[5])
        assert t.blocked is not None
        t.blocked.woken = None
        return None
    if t.tracer is None or not t.ptrace.get("calls") or t.ptrace.get("inside") == call.seq:
        return None
    if t.blocked is None or t.blocked.woken is not None:
        return None
    t.ptrace |= {"entering": True, "inside": call.seq, "syscall": (1, call.nr, *call.args)}
    hart.set_x(10, _ENOSYS)
    _trap_stop(k, t, _call_code(t), 1)
    return _in_call(t)


def leave_call(t: Task, result: int | End) -> None:
    """PTRACE_SYSCALL's stop after a call."""
    if t.tracer is not None and t.ptrace.get("calls"):
        value = result if isinstance(result, int) else 0
        t.ptrace["syscall"] = (2, value & 2**64 - 1, int(value < 0))
        later(t, _call_code(t), 2)


def stepping(t: Task) -> bool:
    """Whether the next instruction is to be the only one."""
    return t.ptrace.get("step") == "wanted"


def stepped(t: Task) -> None:
    """It has run; a call is yet to be done."""
    t.ptrace["step"] = "done"


def report_step(k: Kernel, t: Task) -> None:
    """Before user mode: the SIGTRAP after an instruction. (Mainline's RISC-V has no hardware for
    it and answers EIO to PTRACE_SINGLESTEP; debuggers then set breakpoints.)"""
    if t.ptrace.get("step") == "done" and (t.call is None or t.restart is not None):
        del t.ptrace["step"]
        signals.force_fault(k, t, SIGTRAP, _TRAP_TRACE, t.hart.pc)
