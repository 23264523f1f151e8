"""The system calls for signals."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import SI_TKILL, SI_USER, SIG_BLOCK, SIG_SETMASK, SIG_UNBLOCK, SIGSET_SIZE
from shstk.tracer.kernel.arch.sigframe import SP, altstack_flags, read_altstack, set_altstack
from shstk.tracer.kernel.call import RESTART_NO_HAND, Args, Call, Outcome, Wait, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.signal import siginfo, signals
from shstk.tracer.kernel.signal.siginfo import NEVER_BLOCKED, NSIG, bit
from shstk.tracer.kernel.task import DEAD, Process, SigAction, Siginfo, Task
from shstk.tracer.kernel.time.timers import TIMERS

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

# NOCLDSTOP, NOCLDWAIT, SIGINFO, EXPOSE_TAGBITS, ONSTACK, RESTART, NODEFER, RESETHAND
SA_KNOWN: Final = 0x1 | 0x2 | 0x4 | 0x800 | 0x0800_0000 | 0x1000_0000 | 0x4000_0000 | 0x8000_0000
SIGACTION: Final = struct.Struct("<QQQ")  # handler, flags, mask: riscv has no restorer
SS_FLAG_BITS: Final = 1 << 31
SECOND: Final = 10**9

_MASKS: Final[dict[int, Callable[[int, int], int]]] = {
    SIG_BLOCK: lambda old, new: old | new,
    SIG_UNBLOCK: lambda old, new: old & ~new,
    SIG_SETMASK: lambda old, new: new,
}


def _check_size(size: int) -> None:
    if size != SIGSET_SIZE:
        raise Errno("EINVAL")


# Actions and masks.


def sys_rt_sigaction(k: Kernel, t: Task, a: Args) -> Outcome:
    signo, act, old = i32(a[0]), a[1], a[2]
    _check_size(a[3])
    new = None
    if act:
        handler, flags, mask = SIGACTION.unpack(usermem.get(k, t, act, SIGACTION.size))
        new = SigAction(handler, flags & SA_KNOWN, mask & ~NEVER_BLOCKED)
    if not 1 <= signo <= NSIG or (new and bit(signo) & NEVER_BLOCKED):
        raise Errno("EINVAL")
    actions = t.process.sighand.actions
    before = actions.get(signo, SigAction())
    if new:
        actions[signo] = new
        default_ignored = new.handler == signals.SIG_DFL and bit(signo) & siginfo.DEFAULT_IGNORED
        if new.handler == signals.SIG_IGN or default_ignored:
            signals.discard(t.process, bit(signo))
            signals.recalc(t)
        else:
            TIMERS.of(k).unignored(k, t.process, signo)
    if old:
        usermem.put(k, t, old, SIGACTION.pack(before.handler, before.flags, before.mask))
    return 0


def sys_rt_sigprocmask(k: Kernel, t: Task, a: Args) -> Outcome:
    how, new, old = i32(a[0]), a[1], a[2]
    _check_size(a[3])
    before = t.sigmask
    if new:
        wanted = usermem.get_u64(k, t, new)
        if how not in _MASKS:
            raise Errno("EINVAL")
        signals.set_mask(k, t, _MASKS[how](before, wanted & ~NEVER_BLOCKED))
    if old:
        usermem.put_u64(k, t, old, before)
    return 0


def sys_rt_sigpending(k: Kernel, t: Task, a: Args) -> Outcome:
    if a[1] > SIGSET_SIZE:
        raise Errno("EINVAL")
    waiting = signals.pending_set((t, t.process)) & t.sigmask
    usermem.put(k, t, a[0], struct.pack("<Q", waiting)[: a[1]])
    return 0


def sys_sigaltstack(k: Kernel, t: Task, a: Args) -> Outcome:
    sp, before = t.hart.x(SP), t.altstack
    if a[0]:
        t.altstack = set_altstack(before, read_altstack(k, t, a[0]), sp)
    if a[1]:
        flags = altstack_flags(before, sp) | (before.flags & SS_FLAG_BITS)
        usermem.put(k, t, a[1], struct.pack("<QI4xQ", before.sp, flags, before.size))
    return 0


# Waiting.


def sys_rt_sigsuspend(k: Kernel, t: Task, a: Args) -> Outcome:
    assert t.blocked is not None
    if t.blocked.woken is None:
        _check_size(a[1])
        mask = usermem.get_u64(k, t, a[0])
        t.saved_sigmask = t.sigmask
        signals.set_mask(k, t, mask)
    return RESTART_NO_HAND if signals.has_pending(t) else Wait("rt_sigsuspend")


class _Wanted(NamedTuple):
    """The signals that a blocked rt_sigtimedwait waits for."""

    signals: int


def sys_rt_sigtimedwait(k: Kernel, t: Task, a: Args) -> Outcome:
    """The awaited signals are unblocked during the wait, so that they wake the task."""
    assert t.blocked is not None
    if not isinstance(t.blocked.state, _Wanted):
        _check_size(a[3])
        wanted = usermem.get_u64(k, t, a[0]) & ~NEVER_BLOCKED
        deadline = _deadline(k, t, a[2])
        info = signals.dequeue(k, t, ~wanted)
        if info is not None:
            return _taken(k, t, info, a[1])
        if deadline is not None and deadline <= k.now_ns():
            raise Errno("EAGAIN")
        t.blocked.state = _Wanted(wanted)
        t.real_blocked = t.sigmask
        signals.set_mask(k, t, t.sigmask & ~wanted)
        if not signals.has_pending(t):
            return Wait("rt_sigtimedwait", deadline_ns=deadline)
    info = signals.dequeue(k, t, ~t.blocked.state.signals)
    signals.set_mask(k, t, t.real_blocked)
    t.real_blocked = 0
    if info is not None:
        return _taken(k, t, info, a[1])
    raise Errno("EAGAIN" if t.blocked.woken == "deadline" else "EINTR")


def _deadline(k: Kernel, t: Task, timeout: int) -> int | None:
    if not timeout:
        return None
    seconds, ns = struct.unpack("<qq", usermem.get(k, t, timeout, 16))
    if seconds < 0 or not 0 <= ns < SECOND:
        raise Errno("EINVAL")
    return k.now_ns() + int(seconds) * SECOND + int(ns)


def _taken(k: Kernel, t: Task, info: Siginfo, addr: int) -> int:
    if addr:
        usermem.put(k, t, addr, siginfo.pack(info))
    return info.signo


def sys_restart_syscall(k: Kernel, t: Task, a: Args) -> Outcome:
    """The kernel's own restart of a call that stopped in the middle of its timeout."""
    assert t.blocked is not None
    if t.interruption is None:
        raise Errno("EINTR")
    if t.blocked.woken is None:
        t.blocked.expires, t.blocked.woken = t.interruption.expires, "resumed"
    return t.interruption.handler(k, t, t.interruption.args)


# Sending.


def sys_kill(k: Kernel, t: Task, a: Args) -> Outcome:
    pid, signo = i32(a[0]), i32(a[1])
    me = t.process
    if pid > 0:
        targets = [_task(k, pid).process]
    elif pid == -1:
        targets = [p for p in k.all_processes() if p.pid > 1 and p is not me]
    else:
        group = me.pgid if pid == 0 else -pid
        targets = [p for p in k.all_processes() if p.pgid == group]
    if not targets:
        raise Errno("ESRCH")
    for target in targets:
        _post(k, me, target, Siginfo(_checked(signo), SI_USER, sender=me.pid))
    return 0


def sys_tkill(k: Kernel, t: Task, a: Args) -> Outcome:
    return _tkill(k, t, None, i32(a[0]), i32(a[1]))


def sys_tgkill(k: Kernel, t: Task, a: Args) -> Outcome:
    return _tkill(k, t, i32(a[0]), i32(a[1]), i32(a[2]))


def _tkill(k: Kernel, t: Task, tgid: int | None, tid: int, signo: int) -> int:
    info = Siginfo(signo, SI_TKILL, sender=t.process.pid)
    return _post(k, t.process, _thread(k, tgid, tid), info)


def sys_rt_sigqueueinfo(k: Kernel, t: Task, a: Args) -> Outcome:
    pid = i32(a[0])
    info = _own_info(k, t, pid, i32(a[1]), a[2])
    return _post(k, t.process, _task(k, pid).process, info)


def sys_rt_tgsigqueueinfo(k: Kernel, t: Task, a: Args) -> Outcome:
    tgid, tid = i32(a[0]), i32(a[1])
    if tid <= 0 or tgid <= 0:
        usermem.get(k, t, a[3], siginfo.SIZE)  # it is read before the ids are checked
        raise Errno("EINVAL")
    info = _own_info(k, t, tid, i32(a[2]), a[3])
    return _post(k, t.process, _thread(k, tgid, tid), info)


def _own_info(k: Kernel, t: Task, target: int, signo: int, addr: int) -> Siginfo:
    """Read a siginfo. Errno: EPERM if it looks like the kernel's or kill's to another process."""
    info = siginfo.from_user(usermem.get(k, t, addr, siginfo.SIZE), signo, t.process.pid)
    if (info.code >= 0 or info.code == SI_TKILL) and target != t.tid:
        raise Errno("EPERM")
    return info


def _task(k: Kernel, tid: int) -> Task:
    task = k.find(tid)
    if task is None or task.state == DEAD:
        raise Errno("ESRCH")
    return task


def _thread(k: Kernel, tgid: int | None, tid: int) -> Task:
    if tid <= 0 or (tgid is not None and tgid <= 0):
        raise Errno("EINVAL")
    task = _task(k, tid)
    if tgid is not None and task.process.pid != tgid:
        raise Errno("ESRCH")
    return task


def _checked(signo: int) -> int:
    if not 0 <= signo <= NSIG:
        raise Errno("EINVAL")
    return signo


def _post(k: Kernel, sender: Process, target: Task | Process, info: Siginfo) -> int:
    """Signal 0 only checks that the target exists and may be signalled."""
    _checked(info.signo)
    signals.check_permission(sender, target, info.signo)
    if info.signo and not signals.queue(k, target, info):
        raise Errno("EAGAIN")
    return 0


CALLS: Final = (
    Call("restart_syscall", sys_restart_syscall),
    Call("kill", sys_kill, why="nothing reaches the shell (99) that started the first process"),
    Call("tkill", sys_tkill),
    Call("tgkill", sys_tgkill),
    Call("sigaltstack", sys_sigaltstack),
    Call("rt_sigsuspend", sys_rt_sigsuspend),
    Call("rt_sigaction", sys_rt_sigaction),
    Call("rt_sigprocmask", sys_rt_sigprocmask),
    Call("rt_sigpending", sys_rt_sigpending),
    Call("rt_sigtimedwait", sys_rt_sigtimedwait),
    Call("rt_sigqueueinfo", sys_rt_sigqueueinfo),
    Call("rt_tgsigqueueinfo", sys_rt_tgsigqueueinfo),
)
