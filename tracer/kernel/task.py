"""Tasks and processes as plain data. clone.py, exec.py and exit.py change them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from shstk.schemas.uapi import SCHED_FIFO, SCHED_OTHER, SCHED_RR
from shstk.tracer.kernel.call import Args, End, Interruption

if TYPE_CHECKING:
    from shstk.tracer._core import AddressSpace, Hart
    from shstk.tracer.kernel.fs.files import Files, Fs
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm
    from shstk.tracer.kernel.process.clone import CloneAttempt
    from shstk.tracer.kernel.process.limits import CpuLimit

UID: Final = 1000  # not root, so RLIMIT_NPROC applies; but with CAP_CHECKPOINT_RESTORE
ROOT: Final = 0
RUNNABLE, BLOCKED, STOPPED, ZOMBIE, DEAD = "runnable", "blocked", "stopped", "zombie", "dead"


@dataclass
class CfiState:
    """`struct cfi_state` of the series. clone copies all of it.

    user_shdw_stk, the ssp saved at trap entry, is `Hart.ssp`: it stays in the hart's registers.
    shstk.py, which sets the enable bits, also sets Hart.sse and Hart.lpe.
    """

    ubcfi_en: bool = False
    ubcfi_locked: bool = False
    shdw_stk_base: int = 0
    shdw_stk_size: int = 0
    lp_en: bool = False
    lp_locked: bool = False

    def copy(self) -> CfiState:
        return replace(self)


@dataclass
class SigAction:
    handler: int = 0  # 0 SIG_DFL, 1 SIG_IGN
    flags: int = 0
    mask: int = 0


@dataclass
class Sighand:
    """The handlers of a process; CLONE_SIGHAND shares the object."""

    actions: dict[int, SigAction] = field(default_factory=dict)

    def copy(self) -> Sighand:
        return Sighand({signo: replace(a) for signo, a in self.actions.items()})

    def flush(self) -> None:
        """execve and CLONE_CLEAR_SIGHAND: reset handlers to the default, keep ignored signals."""
        self.actions = {n: SigAction(handler=1) for n, a in self.actions.items() if a.handler == 1}


class SignalTimer(Protocol):
    """A timer whose expiry is a signal."""

    def taken(self, k: Kernel, info: Siginfo) -> None:
        """Its signal has been dequeued; `info` may still be changed."""


@dataclass
class Siginfo:
    """A pending signal."""

    signo: int
    code: int
    sender: int | None = None  # tid or pid of the task that sent it
    si_addr: int | None = None
    value: int = 0  # si_value, or si_status for SIGCHLD
    fields: bytes | None = None  # what follows si_code, as rt_sigqueueinfo's caller gave it
    timer: SignalTimer | None = None  # that expired


@dataclass
class Scheduling:
    """What a program sets about the scheduling of a task. It is kept and has no effect."""

    policy: int = SCHED_OTHER
    priority: int = 0  # of SCHED_FIFO and SCHED_RR
    nice: int = 0
    reset_on_fork: bool = False
    ioprio: int = 0

    def forked(self) -> Scheduling:
        """sched_fork(), copy_io()."""
        if not self.reset_on_fork:
            return replace(self)
        real_time = self.policy in (SCHED_FIFO, SCHED_RR)
        policy = SCHED_OTHER if real_time else self.policy
        return replace(self, policy=policy, priority=0, nice=max(self.nice, 0), reset_on_fork=False)


@dataclass
class AltStack:
    sp: int = 0
    flags: int = 2  # SS_DISABLE
    size: int = 0


class InCall:
    """The system call a task is in, with what its row needs at the end."""

    def __init__(
        self,
        seq: int,
        nr: int,
        name: str | None,
        args: Args,
        tid: int,
        mm: int | None,
        pc: int,
        sp: int,
        ssp: int,
    ) -> None:
        self.seq = seq
        self.nr = nr
        self.name = name
        self.args = args
        self.tid = tid
        self.mm = mm
        self.pc = pc
        self.sp = sp
        self.ssp = ssp
        self.attempt: CloneAttempt | None = None


class Blocked:
    """Created at the entry of every call, so that a try can keep state for the next one.

    The values below are those of a new one. Most calls change none, and cost no __init__.
    """

    reason: str = ""
    keys: Sequence[Hashable] = ()
    deadline_ns: int | None = None  # of this sleep
    interruptible: bool = True
    # None on the first try, "resumed" on that of restart_syscall; then "key", "deadline", "signal".
    woken: str | None = None
    expires: int | None = None  # now_ns at which the call's own timeout ends
    state: object = None  # the call's progress: a dataclass of its module


@dataclass
class PtraceStop:
    """A ptrace-stop that a task is in. kind: "signal", "trap" (an event or a call) or "group"."""

    status: int  # wait status for the tracer
    info: Siginfo  # PTRACE_GETSIGINFO's
    kind: str
    reported: bool = False  # the tracer has waited for it
    listening: bool = False  # PTRACE_LISTEN: it ends with the next thing to tell


class PtraceTrap(NamedTuple):
    """A stop that is due. code: as in the wait status, a signal with an event above it."""

    code: int
    message: int = 0  # PTRACE_GETEVENTMSG's
    kind: str = "trap"  # as in PtraceStop


@dataclass
class PtraceState:
    """The ptrace state of a tracee."""

    options: int = 0  # PTRACE_O_*
    seized: bool = False  # by PTRACE_SEIZE
    stop: PtraceStop | None = None
    message: int = 0  # of the last trap
    traps: list[PtraceTrap] = field(default_factory=list)  # due on the return to user mode
    resumed: Siginfo | None = None  # the signal that the tracer delivers
    calls: bool = False  # PTRACE_SYSCALL: the tracee stops before and after each call
    entered: int | None = None  # seq of the last call before which it stopped
    entering: bool = False  # it has not been resumed from that stop
    syscall: tuple[int, ...] = ()  # PTRACE_GET_SYSCALL_INFO's op and words
    exiting: bool = False  # it has stopped for PTRACE_EVENT_EXIT


@dataclass(frozen=True)
class CpuTime:
    """ns: a nanosecond an instruction, and what its system calls took."""

    user: int = 0
    system: int = 0

    @property
    def total(self) -> int:
        return self.user + self.system

    def __add__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user + other.user, self.system + other.system)


class TraceeEnd(NamedTuple):
    """The end of a tracee, for its tracer."""

    tid: int
    status: int  # wait status
    cpu: CpuTime


@dataclass(eq=False)
class Process:
    """A thread group."""

    pid: int
    parent: Process | None
    sighand: Sighand
    rlimits: dict[str, tuple[int, int]]  # "STACK" -> (soft, hard); names of schemas.uapi.RLIMITS
    pgid: int = 0
    sid: int = 0
    tasks: list[Task] = field(default_factory=list)  # leader first; the leader stays as a zombie
    children: list[Process] = field(default_factory=list)
    pending: list[Siginfo] = field(default_factory=list)  # shared by the group
    tracee_ends: list[TraceeEnd] = field(default_factory=list)  # not waited for yet
    killed: Siginfo | None = None  # the signal that kills the group
    exit_status: int | None = None  # wait status, once the group is ending
    exit_signal: int = 17  # to the parent
    autoreap: bool = False  # CLONE_AUTOREAP: nobody waits for it
    stop_status: int | None = None  # signal of a job-control stop not yet waited for
    stopped: bool = False
    continued: bool = False
    exe: str = ""  # guest path
    argv: tuple[bytes, ...] = ()
    dumpable: int = 1
    child_subreaper: bool = False
    thp_disable: int = 0  # PR_GET_THP_DISABLE's
    has_execed: bool = False  # since it was created: setpgid no longer moves it
    uid: int = UID
    outside: bool = False  # process/outside.py
    exited_cpu: CpuTime = CpuTime()  # of threads that have exited
    children_cpu: CpuTime = CpuTime()  # of children waited for, and theirs
    cpu_limit: CpuLimit | None = None  # once RLIMIT_CPU is finite

    @property
    def ppid(self) -> int:
        return self.parent.pid if self.parent else 0

    @property
    def leader(self) -> Task:
        return self.tasks[0]

    @property
    def cpu(self) -> CpuTime:
        """Of all its threads."""
        return sum((task.cpu for task in self.tasks), self.exited_cpu)

    @property
    def with_children_cpu(self) -> CpuTime:
        """And of the children that it waited for."""
        return self.cpu + self.children_cpu


@dataclass(eq=False)
class Task:
    """A thread. `mm` is None once exit has dropped it."""

    tid: int
    process: Process
    hart: Hart
    mm: Mm | None
    files: Files
    fs: Fs
    comm: str
    cfi: CfiState = field(default_factory=CfiState)
    state: str = RUNNABLE
    call: InCall | None = None
    blocked: Blocked | None = None
    restart: End | None = None  # the RESTART… in which a call ended that is not settled yet
    interruption: Interruption | None = None  # what restart_syscall goes on with
    # signals
    sigmask: int = 0
    real_blocked: int = 0  # in rt_sigtimedwait: sigmask with the signals it waits for
    sigpending: bool = False  # TIF_SIGPENDING: chosen to take a signal; signals.has_pending
    pending: list[Siginfo] = field(default_factory=list)
    altstack: AltStack = field(default_factory=AltStack)
    saved_sigmask: int | None = None  # by sigsuspend and ppoll; restored after delivery
    # user pointers
    set_child_tid: int = 0
    clear_child_tid: int = 0
    robust_list: int = 0
    # parent
    vfork_parent: Task | None = None  # woken when this task releases its mm
    vfork_child: Task | None = None  # the last one; it may have let go
    born_during: int | None = None  # seq of the clone that created it
    user_worker: bool = False  # PF_USER_WORKER: the kernel's, it never enters user mode
    entered: bool = False  # it has been in user mode
    exit_status: int | None = None
    pdeath_signal: int = 0
    # ptrace
    tracer: Task | None = None
    ptrace: PtraceState = field(default_factory=PtraceState)
    icount: int = 0  # instructions attempted by this task
    system_ns: int = 0  # what its system calls took
    no_new_privs: bool = False
    timer_slack_ns: int = 50_000
    default_timer_slack_ns: int = 50_000  # its parent's when it was created
    personality: int = 0
    securebits: int = 0
    scheduling: Scheduling = field(default_factory=Scheduling)
    v_control: int = 2  # PR_RISCV_V_SET_CONTROL's: on (vectors.py)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def mm_id(self) -> int | None:
        return self.mm.id if self.mm else None

    @property
    def cpu(self) -> CpuTime:
        return CpuTime(self.icount, self.system_ns)

    @property
    def space(self) -> AddressSpace:
        """The address space. The task must still have one."""
        assert self.mm is not None
        return self.mm.space

    def rlimit(self, name: str) -> int:
        """The soft limit."""
        return self.process.rlimits[name][0]
