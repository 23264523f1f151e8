"""pidfds: descriptors of processes and threads (fs/pidfs.c, kernel/pid.c, pidfd_send_signal)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    O_EXCL,
    O_NONBLOCK,
    O_RDWR,
    O_TRUNC,
    PIDFD_SELF_THREAD,
    PIDFD_SELF_THREAD_GROUP,
    PIDFD_SIGNAL_PROCESS_GROUP,
    PIDFD_SIGNAL_THREAD,
    PIDFD_SIGNAL_THREAD_GROUP,
    SI_KERNEL,
    SI_TKILL,
    SI_USER,
)
from shstk.tracer.kernel.call import Args, Call, i32
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import POLLHUP, READABLE, OpenFile
from shstk.tracer.kernel.fs.inode import DEV_ANON, Inode
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import ptrace
from shstk.tracer.kernel.signal import siginfo, signals
from shstk.tracer.kernel.signal.siginfo import NSIG, SIGKILL
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.task import DEAD, ZOMBIE, Process, Siginfo, Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel

# In f_flags, beside O_NONBLOCK.
THREAD: Final = O_EXCL  # PIDFD_THREAD: of a thread, not of its process
AUTOKILL: Final = O_TRUNC  # CLONE_PIDFD_AUTOKILL

# PIDFD_GET_INFO: _IOWR(0xFF, 11, struct pidfd_info), whose size is in bits 16 to 29.
_GET_INFO: Final = 0xC000_FF0B
_NAMESPACES: Final = range(0xFF01, 0xFF0B)  # PIDFD_GET_*_NAMESPACE
_INFO: Final = struct.Struct("<QQ11Ii")
_PID, _CREDS, _CGROUPID, _EXIT = 1, 2, 4, 8  # PIDFD_INFO_*
_ROOT_CGROUP: Final = 1
_SCOPES: Final = (
    *(0, PIDFD_SIGNAL_THREAD),
    *(PIDFD_SIGNAL_THREAD_GROUP, PIDFD_SIGNAL_PROCESS_GROUP),
)


class PidFd(OpenFile):
    """task: the one that had the pid when the descriptor was made."""

    def __init__(self, inode: Inode, flags: int, task: Task) -> None:
        super().__init__(inode, O_RDWR | flags, "anon_inode:[pidfd]")
        self.task = task
        self.tid = task.tid
        self.exit_status: int | None = None  # once the task has ended

    def target(self, k: Kernel) -> Task | None:
        """The task that has the pid now: a thread that execs takes its leader's. None: reaped."""
        task, process = k.find(self.tid), self.task.process
        if task is self.task or (task is not None and task is process.leader):
            return task
        return None

    def ready(self, k: Kernel) -> int:
        """A leader's end is told once the last thread of its process has ended."""
        task = self.target(k)
        if task is None:
            return READABLE | POLLHUP
        return READABLE if all(_ended(other) for other in task.process.tasks) else 0

    def released(self, k: Kernel) -> None:
        del PIDFDS.of(k).opened[self]
        task = self.target(k)
        if self.flags & AUTOKILL and task is not None:
            signals.send(k, task.process, SIGKILL, SI_KERNEL)

    def details(self, k: Kernel) -> str:
        pid = self.tid if self.target(k) else -1
        return f"Pid:\t{pid}\nNSpid:\t{pid}\n"

    def ioctl(self, k: Kernel, t: Task, request: int, arg: int) -> int:
        if request & 0xC000_FFFF == _GET_INFO:
            return self._info(k, t, arg, request >> 16 & 0x3FFF)
        if request not in _NAMESPACES:
            raise Errno("ENOTTY")
        k.limit("ioctl", "no namespaces of pidfds")
        raise Errno("EOPNOTSUPP")

    def _info(self, k: Kernel, t: Task, addr: int, size: int) -> int:
        """struct pidfd_info: mask, cgroupid, pid, tgid, ppid, eight ids, exit_code."""
        if not addr or size < _INFO.size:
            raise Errno("EINVAL")
        asked, task = usermem.get_u64(k, t, addr), self.target(k)
        if task is None and not asked & _EXIT:
            raise Errno("ESRCH")
        if task is None:
            values = (_EXIT | _CGROUPID, _ROOT_CGROUP, *(0,) * 11, self.exit_status or 0)
        else:
            known, ids = _PID | _CREDS | _CGROUPID, (task.tid, task.pid, task.process.ppid)
            values = (known, _ROOT_CGROUP, *ids, *(task.process.uid,) * 8, 0)
        usermem.put(k, t, addr, _INFO.pack(*values))
        return 0


class PidFds:
    """The open pidfds."""

    def __init__(self) -> None:
        self.opened: dict[PidFd, None] = {}


PIDFDS: Final = Slot(PidFds)


def _ended(task: Task) -> bool:
    return task.state in (ZOMBIE, DEAD)


def prepare(k: Kernel, t: Task, task: Task, flags: int) -> int:
    """A descriptor in `t` of a task that exists or is being created. Errno EMFILE."""
    same = (file.inode for file in PIDFDS.of(k).opened if file.target(k) is task)
    inode = next(same, None) or Inode(k.sandbox.new_ino(), 0o700, dev=DEV_ANON)
    file = PidFd(inode, flags, task)
    fd = t.files.add(t, file, cloexec=True)
    PIDFDS.of(k).opened[file] = None
    return fd


def changed(k: Kernel, task: Task) -> None:
    """A task has ended, or has been reaped: wake who polls its pidfds."""
    for file in PIDFDS.of(k).opened:
        if file.tid == task.tid and file.task.process is task.process:
            file.exit_status = task.exit_status
            file.notify(k)


def pidfd(t: Task, fd: int) -> PidFd:
    """Errno EBADF if the descriptor is no pidfd."""
    file = t.files.get(fd)
    if not isinstance(file, PidFd):
        raise Errno("EBADF")
    return file


def process_of(k: Kernel, t: Task, fd: int) -> Task:
    """The task that a pidfd argument of another call names. Errno EBADF, ESRCH."""
    task = pidfd(t, fd).target(k)
    if task is None:
        raise Errno("ESRCH")
    return task


def sys_pidfd_open(k: Kernel, t: Task, a: Args) -> int:
    pid, flags = i32(a[0]), a[1] & 0xFFFF_FFFF
    if flags & ~(O_NONBLOCK | THREAD) or pid <= 0:
        raise Errno("EINVAL")
    task = k.find(pid)
    if task is None:
        raise Errno("ESRCH")
    if not flags & THREAD and task is not task.process.leader:
        raise Errno("ENOENT")  # EINVAL before 6.16
    return prepare(k, t, task, flags)


def sys_pidfd_send_signal(k: Kernel, t: Task, a: Args) -> int:
    signo, scope = i32(a[1]), a[3] & 0xFFFF_FFFF
    if scope not in _SCOPES:
        raise Errno("EINVAL")
    pid, task, thread = _named(k, t, i32(a[0]))
    to_group = scope == PIDFD_SIGNAL_PROCESS_GROUP
    to_thread = scope == PIDFD_SIGNAL_THREAD or (thread and not scope)
    info = Siginfo(signo, SI_TKILL if to_thread else SI_USER, sender=t.pid)
    if a[2]:
        data = usermem.get(k, t, a[2], siginfo.SIZE)
        info = siginfo.from_user(data, signo, t.pid)
        if int.from_bytes(data[:4], "little", signed=True) != signo:
            raise Errno("EINVAL")
        own = task is t and not to_group
        if not own and (info.code >= 0 or info.code == SI_TKILL):
            raise Errno("EPERM")
    targets: list[Task | Process] = []
    if to_group:
        targets += [process for process in k.all_processes() if process.pgid == pid]
    elif task is not None:
        targets.append(task if to_thread else task.process)
    if not targets:
        raise Errno("ESRCH")
    if not 0 <= signo <= NSIG:
        raise Errno("EINVAL")
    for target in targets:
        signals.check_permission(t.process, target, signo)
    sent = [not signo or signals.queue(k, target, info) for target in targets]
    if not any(sent):
        raise Errno("EAGAIN")
    return 0


def _named(k: Kernel, t: Task, fd: int) -> tuple[int, Task | None, bool]:
    """The pid, the task that has it, and whether the descriptor is a thread's."""
    if fd == PIDFD_SELF_THREAD:
        return t.tid, t, True
    if fd == PIDFD_SELF_THREAD_GROUP:
        return t.pid, t.process.leader, False
    file = pidfd(t, fd)
    return file.tid, file.target(k), bool(file.flags & THREAD)


def sys_pidfd_getfd(k: Kernel, t: Task, a: Args) -> int:
    if a[2] & 0xFFFF_FFFF:
        raise Errno("EINVAL")
    task = process_of(k, t, a[0])
    if not ptrace.may_access(t, task):
        raise Errno("EPERM")
    if _ended(task):
        raise Errno("ESRCH")
    return t.files.add(t, task.files.get(a[1], path_only=True), cloexec=True)


CALLS: Final = (
    Call("pidfd_open", sys_pidfd_open),
    Call("pidfd_send_signal", sys_pidfd_send_signal, why="/proc/PID is no pidfd"),
    Call("pidfd_getfd", sys_pidfd_getfd),
)
