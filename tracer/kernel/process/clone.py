"""clone, clone3: copy_process in the kernel's order, with its error paths (kernel/fork.c)."""

from __future__ import annotations

import struct
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    CLONE_CHILD_CLEARTID,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    CLONED_AS,
    CSIGNAL,
    PAGE,
    constants,
)
from shstk.tracer.kernel.arch import shstk
from shstk.tracer.kernel.call import RESTART_ALWAYS, Args, Call, Outcome, Wait
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.ipc import sysvsem
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.layout import TASK_SIZE
from shstk.tracer.kernel.mm.mm import Birth, Mm
from shstk.tracer.kernel.process import exit as exits
from shstk.tracer.kernel.process import limits, pidfd, ptrace
from shstk.tracer.kernel.process.modules import MODULES
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import NEVER_BLOCKED, NSIG
from shstk.tracer.kernel.task import BLOCKED, AltStack, Process, Task

if TYPE_CHECKING:
    from shstk.tracer._core import Hart
    from shstk.tracer.kernel.kernel import Kernel

_F: Final = constants("CLONE_")
_SINCE_7_1: Final = sum(
    _F[f"CLONE_{name}"] for name in ("AUTOREAP", "NNP", "PIDFD_AUTOKILL", "EMPTY_MNTNS")
)
_NAMESPACES: Final = sum(
    _F[f"CLONE_{name}"]
    for name in (
        *("NEWNS", "NEWCGROUP", "NEWUTS", "NEWIPC", "NEWUSER", "NEWPID", "NEWNET"),
        "EMPTY_MNTNS",
    )
)
_IO_THREAD: Final = sum(
    _F[f"CLONE_{name}"] for name in ("FS", "FILES", "SIGHAND", "THREAD", "IO", "VM", "UNTRACED")
)
_THREAD_KERNEL_STACK: Final = 16 << 10  # THREAD_SIZE; an eighth of memory may be such stacks

# struct clone_args: eleven u64. The sizes are those of its first and its latest version.
_CLONE_ARGS: Final = struct.Struct("<11Q")
_CLONE_ARGS_VER0: Final = 64
_MAX_SET_TID: Final = 32


@dataclass(frozen=True)
class CloneArgs:
    """struct kernel_clone_args. `stack`: the lowest address in clone3, the child's sp in clone."""

    flags: int
    exit_signal: int
    stack: int = 0
    stack_size: int = 0
    tls: int = 0
    parent_tid: int = 0
    child_tid: int = 0
    pidfd: int = 0
    set_tid: tuple[int, ...] = ()
    worker: bool = False  # args->fn: a thread that the kernel runs

    @property
    def sp(self) -> int:
        return self.stack + self.stack_size

    def has(self, *names: str) -> bool:
        """Whether any of the flags is set."""
        return any(self.flags & _F[f"CLONE_{name}"] for name in names)


@dataclass
class CloneAttempt:
    """The columns of a `clones` row: the arguments (zeros until they are read) and the child."""

    seq: int
    tid: int
    mm: int | None
    api: str
    flags: int = 0
    stack: int = 0
    stack_size: int = 0
    tls: int = 0
    parent_tid: int = 0
    child_tid_addr: int = 0
    set_tid: int | None = None
    exit_signal: int = 0
    child_tid: int | None = None

    def fill(self, args: CloneArgs) -> None:
        self.flags = args.flags
        self.stack, self.stack_size, self.tls = args.stack, args.stack_size, args.tls
        self.parent_tid, self.child_tid_addr = args.parent_tid, args.child_tid
        self.set_tid = args.set_tid[0] & 0xFFFF_FFFF if args.set_tid else None
        self.exit_signal = args.exit_signal & 0xFFFF_FFFF


@dataclass
class _Made:
    """State of a call that has created its child. waited: it has blocked for a vfork child."""

    child: int
    waited: bool = False


def sys_clone(k: Kernel, t: Task, a: Args) -> Outcome:
    """RISC-V's order (CONFIG_CLONE_BACKWARDS): flags, stack, parent_tid, tls, child_tid."""
    if (outcome := _cloned(k, t)) is not None:
        return outcome
    given, stack, parent_tid, tls, child_tid, _ = a
    flags = given & 0xFFFF_FFFF & ~CSIGNAL
    args = CloneArgs(flags, given & CSIGNAL, stack, 0, tls, parent_tid, child_tid, pidfd=parent_tid)
    api = CLONED_AS.get(flags, "clone")
    attempt = _attempt(t, api)
    attempt.fill(args)
    attempt.flags = given & ~CSIGNAL  # with the upper half, which clone ignores
    return _kernel_clone(k, t, args, attempt)


def sys_clone3(k: Kernel, t: Task, a: Args) -> Outcome:
    if (outcome := _cloned(k, t)) is not None:
        return outcome
    attempt = _attempt(t, "clone3")
    args = _copy_clone_args(k, t, a[0], a[1], attempt)
    _check_clone3(k, args)
    return _kernel_clone(k, t, args, attempt)


def _cloned(k: Kernel, t: Task) -> Outcome | None:
    """The rest of a call that has created its child: vfork waits for it. None for a new call."""
    assert t.blocked is not None
    made = t.blocked.state
    if not isinstance(made, _Made):
        return None
    child = k.tasks.get(made.child)
    if child is not None and child.vfork_parent is t:
        made.waited = True
        return Wait("vfork", ("vfork", child), interruptible=False)
    if made.waited:
        ptrace.vfork_done(t, made.child)
    return made.child


def _attempt(t: Task, api: str) -> CloneAttempt:
    assert t.call is not None
    t.call.attempt = CloneAttempt(t.call.seq, t.tid, t.mm_id, api)
    return t.call.attempt


def _copy_clone_args(
    k: Kernel, t: Task, pointer: int, size: int, attempt: CloneAttempt
) -> CloneArgs:
    """copy_clone_args_from_user. Errno: E2BIG, EINVAL, EFAULT."""
    if size > PAGE:
        raise Errno("E2BIG")
    if size < _CLONE_ARGS_VER0:
        raise Errno("EINVAL")
    data = usermem.get(k, t, pointer, size).ljust(_CLONE_ARGS.size, b"\0")
    if any(data[_CLONE_ARGS.size :]):  # copy_struct_from_user looks at it before it copies
        raise Errno("E2BIG")
    flags, pidfd_at, child_tid, parent_tid, exit_signal, stack, stack_size, tls, tids, n, cgroup = (
        _CLONE_ARGS.unpack_from(data)
    )
    args = CloneArgs(flags, exit_signal, stack, stack_size, tls, parent_tid, child_tid, pidfd_at)
    attempt.fill(args)
    if n > _MAX_SET_TID or bool(tids) != bool(n) or exit_signal & ~CSIGNAL or exit_signal > 64:
        raise Errno("EINVAL")
    if args.has("INTO_CGROUP") and (cgroup > 2**31 - 1 or size < _CLONE_ARGS.size):
        raise Errno("EINVAL")
    set_tid = struct.unpack(f"<{n}i", usermem.get(k, t, tids, 4 * n))
    args = replace(args, set_tid=set_tid)
    attempt.fill(args)
    return args


def _check_clone3(k: Kernel, args: CloneArgs) -> None:
    """clone3_args_valid. Errno: EINVAL."""
    known = sum(_F.values()) & ~(_SINCE_7_1 if k.row["clone3_flags"] == "into_cgroup" else 0)
    if args.flags & ~known or args.has("DETACHED"):
        raise Errno("EINVAL")
    if args.has("SIGHAND") and args.has("CLEAR_SIGHAND"):
        raise Errno("EINVAL")
    if args.has("THREAD", "PARENT") and args.exit_signal:
        raise Errno("EINVAL")
    if bool(args.stack) != bool(args.stack_size) or args.sp > TASK_SIZE:
        raise Errno("EINVAL")


def _kernel_clone(k: Kernel, t: Task, args: CloneArgs, attempt: CloneAttempt) -> Outcome:
    assert t.blocked is not None
    if (signals_first := _check_flags(t, args)) is not None:
        return signals_first
    child = _copy_process(k, t, args)
    attempt.child_tid = child.tid
    k.event("created", child, value=t.tid)
    if args.has("PARENT_SETTID"):
        with suppress(Errno):  # the kernel ignores put_user's error
            usermem.put_u32(k, t, args.parent_tid, child.tid)
    k.sched.add(child)
    t.blocked.state = _Made(child.tid)
    if args.flags & CLONE_VFORK:
        child.vfork_parent, t.vfork_child = t, child
    stop = ptrace.forked(k, t, child, args.flags, args.exit_signal)
    return stop or _cloned(k, t) or child.tid


def _check_flags(t: Task, args: CloneArgs) -> Outcome | None:
    """The first refusals of kernel_clone and copy_process; nothing is made yet.

    Errno: EINVAL; EPERM for CLONE_PIDFD_AUTOKILL without CLONE_NNP.
    """
    one_address = args.pidfd == args.parent_tid and args.has("PARENT_SETTID")
    killing = args.has("PIDFD_AUTOKILL")
    bad = (
        args.exit_signal > NSIG
        or (args.has("PIDFD") and one_address)
        or (args.has("FS") and args.has("NEWNS", "NEWUSER", "EMPTY_MNTNS"))
        or (args.has("THREAD") and not args.has("SIGHAND"))
        or (args.has("SIGHAND") and not args.has("VM"))
        or (args.has("THREAD") and args.has("NEWUSER", "NEWPID"))
        or (args.has("PIDFD") and args.has("DETACHED"))
        or (args.has("AUTOREAP") and (args.has("THREAD", "PARENT") or args.exit_signal))
        or (args.has("PARENT") and t.process.autoreap)
        or (args.has("NNP") and args.has("THREAD"))
        or (killing and not (args.has("PIDFD") and args.has("AUTOREAP")))
    )
    if bad:
        raise Errno("EINVAL")
    if killing and not args.has("NNP"):
        raise Errno("EPERM")
    return RESTART_ALWAYS if signals.has_pending(t) else None


def _copy_process(k: Kernel, t: Task, args: CloneArgs) -> Task:
    """Create a task step by step. An error undoes the steps in reverse, like the gotos in the
    kernel's copy_process. Errno: EAGAIN, ENOMEM, EPERM, EEXIST, EINVAL, EINTR."""
    with ExitStack() as undo:
        child = _dup_task_struct(k, t, args)
        if args.has("THREAD"):
            child.process = t.process
        else:
            child.process = _copy_signal(t, args)
        if args.has("SYSVSEM"):
            sysvsem.cloned(k, t, child)
            undo.callback(sysvsem.left, k, child)
        _copy_files(k, t, child, args, undo)
        _copy_mm(k, t, child, args, undo)
        if args.has("NEWUSER"):
            k.limit("clone", "no namespaces")
        if args.flags & _NAMESPACES:
            raise Errno("EPERM")
        if not args.worker:
            _copy_thread(k, child, args)
        undo.callback(shstk.exit_thread, k, child)
        child.tid = _alloc_pid(k, args.set_tid)
        if args.has("PIDFD"):
            _make_pidfd(k, t, child, args, undo)
        if args.has("INTO_CGROUP"):
            raise Errno("EBADF")  # no descriptor is a cgroup's
        if k.pids_max is not None and len(k.tasks) >= k.pids_max:
            raise Errno("EAGAIN")
        if any(info.signo == 9 for info in (*t.pending, *t.process.pending)):
            raise Errno("EINTR")
        undo.pop_all()
    _publish(k, t, child, args)
    return child


def _dup_task_struct(k: Kernel, t: Task, args: CloneArgs) -> Task:
    """Copy the task, then check RLIMIT_NPROC and the machine's limit. Errno: EAGAIN."""
    if len(k.tasks) >= t.rlimit("NPROC"):
        raise Errno("EAGAIN")
    if k.memory is not None and len(k.tasks) >= max(k.memory // (8 * _THREAD_KERNEL_STACK), 20):
        raise Errno("EAGAIN")
    return Task(
        tid=0,
        process=t.process,
        hart=_copy_hart(t.hart),
        mm=None,
        files=t.files,
        fs=t.fs,
        comm=t.comm,
        cfi=t.cfi.copy(),
        sigmask=t.sigmask,
        altstack=AltStack()
        if args.flags & (CLONE_VM | CLONE_VFORK) == CLONE_VM
        else replace(t.altstack),
        set_child_tid=args.child_tid if args.has("CHILD_SETTID") else 0,
        clear_child_tid=args.child_tid if args.flags & CLONE_CHILD_CLEARTID else 0,
        born_during=k.during,
        no_new_privs=t.no_new_privs or args.has("NNP"),
        timer_slack_ns=t.timer_slack_ns,
        default_timer_slack_ns=t.timer_slack_ns,
        personality=t.personality,
        securebits=t.securebits,
        scheduling=t.scheduling.forked(),
        v_control=t.v_control,
    )


def _copy_hart(hart: Hart) -> Hart:
    """copy_thread() turns off vectors in the child."""
    copy = hart.copy()
    copy.v_used = False
    return copy


def _copy_files(k: Kernel, t: Task, child: Task, args: CloneArgs, undo: ExitStack) -> None:
    child.files = t.files.share() if args.has("FILES") else t.files.copy()
    undo.callback(child.files.drop, k)
    child.fs = t.fs if args.has("FS") else t.fs.copy()


def _copy_signal(t: Task, args: CloneArgs) -> Process:
    """A new thread group: handlers, limits and other state that threads share."""
    parent = t.process
    if args.has("SIGHAND"):
        sighand = parent.sighand
    else:
        sighand = parent.sighand.copy()
        if args.has("CLEAR_SIGHAND"):
            sighand.flush()
    return Process(
        pid=0,
        parent=parent.parent if args.has("PARENT") else parent,
        sighand=sighand,
        rlimits=dict(parent.rlimits),
        pgid=parent.pgid,
        sid=parent.sid,
        exit_signal=parent.exit_signal if args.has("PARENT") else args.exit_signal,
        autoreap=args.has("AUTOREAP"),
        exe=parent.exe,
        argv=parent.argv,
        dumpable=parent.dumpable,
        thp_disable=parent.thp_disable,
    )


def _copy_mm(k: Kernel, t: Task, child: Task, args: CloneArgs, undo: ExitStack) -> None:
    assert t.mm is not None
    if args.flags & CLONE_VM:
        child.mm = t.mm
        child.mm.users += 1
        child.mm.pmlen_locked = True
    else:
        t.mm.check_fork(k)
        child.mm = dup_mm(k, t.mm)
    undo.callback(exits.mmput, k, child.mm)


def dup_mm(k: Kernel, parent: Mm) -> Mm:
    mm = parent.copy(k.new_mm_id(), Birth(k.seq(), None, "fork", parent.id))
    k.mms[mm.id] = mm
    mm.forked()
    MODULES.of(k).inherit(mm, parent)
    return mm


def _copy_thread(k: Kernel, child: Task, args: CloneArgs) -> None:
    """arch/riscv: the child's registers and shadow stack."""
    ssp = shstk.alloc_thread_stack(k, child, args.flags, args.stack_size)
    if args.sp:
        child.hart.set_x(2, args.sp)
    if ssp:
        shstk.set_active(child, ssp)
    if args.has("SETTLS"):
        child.hart.set_x(4, args.tls)
    child.hart.set_x(10, 0)


def _alloc_pid(k: Kernel, set_tid: tuple[int, ...]) -> int:
    """Errno: EAGAIN (none is free), EEXIST, EINVAL (not a pid, or more than one level)."""
    if not set_tid:
        tid = k.new_tid()
        if tid is None:
            raise Errno("EAGAIN")
        return tid
    if len(set_tid) > 1 or not 1 <= set_tid[0] < k.pid_max:
        raise Errno("EINVAL")
    if k.find(set_tid[0]) is not None:
        raise Errno("EEXIST")
    return set_tid[0]


def _make_pidfd(k: Kernel, t: Task, child: Task, args: CloneArgs, undo: ExitStack) -> None:
    """Errno: EMFILE, EFAULT. A number that was stored stays stored if a later step fails."""
    thread, killing = args.has("THREAD"), args.has("PIDFD_AUTOKILL")
    fd = pidfd.prepare(k, t, child, thread * pidfd.THREAD | killing * pidfd.AUTOKILL)
    undo.callback(t.files.close, k, fd)
    usermem.put_u32(k, t, args.pidfd, fd)


def _publish(k: Kernel, t: Task, child: Task, args: CloneArgs) -> None:
    process = child.process
    k.tasks[child.tid] = child
    process.tasks.append(child)
    if not args.flags & CLONE_THREAD:
        process.pid = child.tid
        k.processes[process.pid] = process
        if process.parent is not None:
            process.parent.children.append(process)
        limits.limit_cpu(k, process)
    assert child.mm is not None
    if not args.flags & CLONE_VM:
        child.mm.birth.tid = child.tid


def io_thread(k: Kernel, t: Task, comm: str) -> Task:
    """create_io_thread(): a thread that the kernel runs in the caller's process. copy_thread gives
    it no shadow stack, but the state copied from its creator has the creator's recorded."""
    child = _copy_process(k, t, CloneArgs(_IO_THREAD, 0, worker=True))
    child.comm, child.user_worker, child.state = comm[:15], True, BLOCKED
    child.sigmask = 2**64 - 1 & ~NEVER_BLOCKED
    k.event("created", child, value=t.tid)
    return child


def sys_set_tid_address(k: Kernel, t: Task, a: Args) -> int:
    t.clear_child_tid = a[0]
    return t.tid


CALLS = (
    Call("set_tid_address", sys_set_tid_address),
    Call("clone", sys_clone, why="no namespaces: -EPERM; CLONE_PTRACE and CLONE_IO are ignored"),
    Call(
        "clone3",
        sys_clone3,
        why="no namespaces: -EPERM; no cgroups: -EBADF; CLONE_PTRACE and CLONE_IO are ignored",
    ),
)
