"""wait4, waitid: find a child whose state has changed, and report it (kernel/exit.c)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import (
    __WALL,
    __WCLONE,
    __WNOTHREAD,
    CLD_CONTINUED,
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    CLD_TRAPPED,
    O_NONBLOCK,
    P_ALL,
    P_PGID,
    P_PID,
    P_PIDFD,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    WUNTRACED,
)
from shstk.tracer.kernel.call import RESTART, Args, Call, Outcome, Wait, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import exit as exits
from shstk.tracer.kernel.process import pidfd
from shstk.tracer.kernel.signal.siginfo import SIGCHLD, SIGCONT
from shstk.tracer.kernel.task import DEAD, UID, ZOMBIE, CpuTime, Process, Task
from shstk.tracer.kernel.time.clock import pack_rusage

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

_WAIT4_OPTIONS: Final = WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WALL | __WCLONE
_WAITID_OPTIONS: Final = _WAIT4_OPTIONS | WEXITED | WNOWAIT


class _Report(NamedTuple):
    """What a wait reports. status: a wait status. code, value: for waitid's siginfo."""

    pid: int
    status: int
    code: int
    value: int
    cpu: CpuTime  # RUSAGE_BOTH: of the process and the children that it waited for


def sys_wait4(k: Kernel, t: Task, a: Args) -> Outcome:
    pid, status_at, options, rusage_at, *_ = a
    if options & 0xFFFF_FFFF & ~_WAIT4_OPTIONS:
        raise Errno("EINVAL")
    pid = i32(pid)
    if pid == -(2**31):
        raise Errno("ESRCH")
    if pid > 0:
        kind, id = P_PID, pid
    elif pid == -1:
        kind, id = P_ALL, 0
    else:
        kind, id = P_PGID, -pid or t.process.pgid
    found = _wait(k, t, kind, id, options | WEXITED)
    if not isinstance(found, _Report):
        return found
    if status_at:
        usermem.put_u32(k, t, status_at, found.status)
    if rusage_at:
        usermem.put(k, t, rusage_at, pack_rusage(found.cpu))
    return found.pid


def sys_waitid(k: Kernel, t: Task, a: Args) -> Outcome:
    kind, id, info_at, options, rusage_at, _ = a
    if options & 0xFFFF_FFFF & ~_WAITID_OPTIONS:
        raise Errno("EINVAL")
    if not options & (WEXITED | WUNTRACED | WCONTINUED):
        raise Errno("EINVAL")
    kind, id = kind & 0xFFFF_FFFF, i32(id)
    if kind not in (P_ALL, P_PID, P_PGID, P_PIDFD) or (kind == P_PID and id <= 0):
        raise Errno("EINVAL")
    if kind != P_ALL and id < 0:
        raise Errno("EINVAL")
    nonblocking = False
    if kind == P_PGID and id == 0:
        id = t.process.pgid
    elif kind == P_PIDFD:
        file = _of_pidfd(k, t, id)
        kind, id, nonblocking = P_PID, file.tid, bool(file.flags & O_NONBLOCK)
    found = _wait(k, t, kind, id, options | WNOHANG * nonblocking)
    if found == 0 and nonblocking and not options & WNOHANG:
        raise Errno("EAGAIN")
    if isinstance(found, _Report):
        if rusage_at:
            usermem.put(k, t, rusage_at, pack_rusage(found.cpu))
        fields = (SIGCHLD, 0, found.code, 0, found.pid, UID, found.value)
    elif found == 0:
        fields = (0,) * 7
    else:
        return found
    if info_at:
        usermem.put(k, t, info_at, struct.pack("<7i", *fields))
    return 0


def _of_pidfd(k: Kernel, t: Task, fd: int) -> pidfd.PidFd:
    """The pidfd that the call got: it keeps it if the descriptor is closed while it waits.

    Errno EBADF; ECHILD: nobody has the pid any more.
    """
    assert t.blocked is not None
    if not isinstance(t.blocked.state, pidfd.PidFd):
        t.blocked.state = pidfd.pidfd(t, fd)
    if t.blocked.state.target(k) is None:
        raise Errno("ECHILD")
    return t.blocked.state


def _wait(k: Kernel, t: Task, kind: int, id: int, options: int) -> _Report | Outcome:
    """do_wait: returns a report, 0 under WNOHANG, or a Wait. Errno: ECHILD."""
    assert t.blocked is not None
    children = [c for c in t.process.children if _eligible(c, kind, id, options)]
    tracees = [
        task
        for task in k.tasks.values()
        if task.tracer is not None and task.tracer.process is t.process and _matches(task, kind, id)
    ]
    ends = [e for e in t.process.tracee_ends if kind == P_ALL or (kind == P_PID and e.tid == id)]
    found = ends[0] if ends else None
    if not children and not tracees and found is None:
        raise Errno("ECHILD")
    keep = bool(options & WNOWAIT)
    if found is not None and options & WEXITED:
        if not keep:
            t.process.tracee_ends.remove(found)
        return _ended(found.tid, found.status, found.cpu)
    for task in tracees:
        stop = task.ptrace.stop
        if stop is not None and not stop.reported:
            stop.reported = not keep
            cpu = task.process.with_children_cpu
            return _Report(task.tid, stop.status, CLD_TRAPPED, stop.status >> 8, cpu)
    for child in children:
        if (report := _look(k, child, options, keep)) is not None:
            return report
    if options & WNOHANG:
        return 0
    if t.blocked.woken == "signal":
        return RESTART
    return Wait("wait4", ("child", t.pid))


def _ended(pid: int, status: int, cpu: CpuTime) -> _Report:
    if status & 0x7F:
        code = CLD_DUMPED if status & 0x80 else CLD_KILLED
        return _Report(pid, status, code, status & 0x7F, cpu)
    return _Report(pid, status, CLD_EXITED, status >> 8, cpu)


def _eligible(child: Process, kind: int, id: int, options: int) -> bool:
    """eligible_child: a clone child (exit signal not SIGCHLD) needs __WCLONE or __WALL."""
    leader = child.leader
    if (kind == P_PID and leader.tid != id) or (kind == P_PGID and child.pgid != id):
        return False
    clone_child = child.exit_signal != SIGCHLD
    return bool(options & __WALL) or clone_child == bool(options & __WCLONE)


def _matches(task: Task, kind: int, id: int) -> bool:
    return (
        kind == P_ALL
        or (kind == P_PID and task.tid == id)
        or (kind == P_PGID and task.process.pgid == id)
    )


def _look(k: Kernel, child: Process, options: int, keep: bool) -> _Report | None:
    cpu = child.with_children_cpu
    dead = all(task.state in (ZOMBIE, DEAD) for task in child.tasks)
    if dead and options & WEXITED:
        status = child.exit_status or 0
        if not keep:
            exits.reap(k, child)
        return _ended(child.pid, status, cpu)
    if child.stop_status is not None and child.stopped and options & WUNTRACED:
        signo = child.stop_status
        if not keep:
            child.stop_status = None
        return _Report(child.pid, signo << 8 | 0x7F, CLD_STOPPED, signo, cpu)
    if child.continued and options & WCONTINUED:
        child.continued = keep
        return _Report(child.pid, 0xFFFF, CLD_CONTINUED, SIGCONT, cpu)
    return None


CALLS = (
    Call("waitid", sys_waitid, why="__WNOTHREAD is ignored; rusage has the times only"),
    Call("wait4", sys_wait4, why="__WNOTHREAD is ignored; rusage has the times only"),
)
