"""Delivery of pending signals on the return to user mode (get_signal, handle_signal).

A handler gets a frame, one on top of the other if several signals are pending. Otherwise the task
stops or is killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import CLD_STOPPED, SI_KERNEL, SI_USER
from shstk.tracer.kernel.arch import sigframe
from shstk.tracer.kernel.process import coredump, ptrace
from shstk.tracer.kernel.process import exit as exits
from shstk.tracer.kernel.process.identity import orphaned
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import (
    CORE_DUMPING,
    DEFAULT_IGNORED,
    SIGSEGV,
    SIGSTOP,
    STOPS,
    SYNCHRONOUS,
    bit,
)
from shstk.tracer.kernel.signal.signals import SIG_DFL, SIG_IGN
from shstk.tracer.kernel.task import RUNNABLE, STOPPED, AltStack, Process, SigAction, Siginfo, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_WCOREFLAG: Final = 0x80
SA_RESTART: Final = 0x1000_0000
SA_NODEFER: Final = 0x4000_0000
SA_RESETHAND: Final = 0x8000_0000


def deliver_pending(k: Kernel, t: Task) -> None:
    """Deliver signals until none is pending, or until the task stops or is killed."""
    while t.state == RUNNABLE:
        if t.process.killed is not None:
            _die(k, t, t.process.killed)
            return
        if t.process.stopped and not t.tracer:
            t.state = STOPPED
            k.sched.remove(t)
            return
        if ptrace.stop_for_trap(k, t):
            return
        resumed = ptrace.take_resumed(k, t)
        info = resumed or (_next(k, t) if t.sigpending else None)
        if info is None:
            break
        if t.tracer and info is not resumed:
            ptrace.signal_stop(k, t, info)
            return
        action = t.process.sighand.actions.get(info.signo, SigAction())
        if action.handler == SIG_DFL:
            _default(k, t, info)
        elif action.handler != SIG_IGN:
            _enter(k, t, info, action)
    if t.saved_sigmask is not None and t.state == RUNNABLE:
        mask, t.saved_sigmask = t.saved_sigmask, None
        signals.set_mask(k, t, mask)


def _next(k: Kernel, t: Task) -> Siginfo | None:
    """What get_signal() takes: an exception's own signal, then the lowest number."""
    for info in t.pending:
        if info.code > SI_USER and bit(info.signo) & SYNCHRONOUS & ~t.sigmask:
            t.pending = [p for p in t.pending if p is not info]
            signals.recalc(t)
            return info
    return signals.dequeue(k, t, t.sigmask)


def _enter(k: Kernel, t: Task, info: Siginfo, action: SigAction) -> None:
    """handle_signal() and signal_setup_done()."""
    if action.flags & SA_RESETHAND:
        t.process.sighand.actions[info.signo] = SigAction(SIG_DFL, action.flags, action.mask)
    if t.restart is not None:
        k.settle(t, sa_restart=bool(action.flags & SA_RESTART))
    mask = t.sigmask if t.saved_sigmask is None else t.saved_sigmask
    if not sigframe.push(k, t, info, action, mask):
        # If even the frame of a SIGSEGV can't be pushed, its handler can't run: kill the task.
        fatal = info.signo == SIGSEGV
        signals.force(k, t, Siginfo(SIGSEGV, SI_KERNEL), fatal=fatal)
        return
    t.saved_sigmask = None
    own = 0 if action.flags & SA_NODEFER else bit(info.signo)
    signals.set_mask(k, t, t.sigmask | action.mask | own)
    if t.altstack.flags & sigframe.SS_AUTODISARM:
        t.altstack = AltStack()
    t.hart.clear_reservation()


def _default(k: Kernel, t: Task, info: Siginfo) -> None:
    if bit(info.signo) & STOPS:
        # An orphaned process group ignores the stop signals of the terminal.
        if info.signo == SIGSTOP or not orphaned(k, t.process):
            _group_stop(k, t.process, info.signo)
    elif not bit(info.signo) & DEFAULT_IGNORED:
        _die(k, t, info)


def _die(k: Kernel, t: Task, info: Siginfo) -> None:
    """Kill the process. Its wait status has 0x80 if a core was written."""
    k.rec.row(
        "signals",
        seq=k.seq(),
        tid=t.tid,
        mm=t.mm_id,
        kind="fatal",
        signo=info.signo,
        code=info.code,
        si_addr=info.si_addr,
        sender=info.sender,
        ssp_before=t.hart.ssp,
        ssp_after=t.hart.ssp,
    )
    dumped = bool(bit(info.signo) & CORE_DUMPING) and coredump.write(k, t, info)
    exits.do_group_exit(k, t, info.signo | (_WCOREFLAG if dumped else 0))


def _group_stop(k: Kernel, process: Process, signo: int) -> None:
    """do_signal_stop(): each thread stops on its next return to user mode."""
    process.stopped = True
    process.continued = False
    for t in process.tasks:
        if t.tracer:
            ptrace.group_stop(t, signo)
    tracer = process.leader.tracer
    if tracer is not None and tracer.process is process.parent:
        return  # the parent gets the tracees' stops
    process.stop_status = signo
    signals.notify(k, process.parent, process.pid, CLD_STOPPED, signo)
