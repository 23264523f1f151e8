"""unshare: a task stops sharing what clone made it share (kernel/fork.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.ipc import sysvsem
from shstk.tracer.kernel.process import pidfd

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_NEWTIME: Final = 0x80
_EMPTY_MNTNS: Final = 0x10_0000  # UNSHARE_EMPTY_MNTNS, with the clone3 flags of 7.1
_PRIVILEGED: Final = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
) | _NEWTIME
_KNOWN: Final = (
    CLONE_THREAD | CLONE_FS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_SYSVSEM | CLONE_NEWUSER
) | _PRIVILEGED


def sys_unshare(k: Kernel, t: Task, a: Args) -> int:
    flags, known = a[0], _KNOWN
    if k.row["clone3_flags"] == "empty_mntns":
        known |= _EMPTY_MNTNS
    if flags & ~known:
        raise Errno("EINVAL")
    if flags & CLONE_NEWUSER:
        flags |= CLONE_THREAD | CLONE_FS
    if flags & CLONE_VM:
        flags |= CLONE_SIGHAND
    if flags & CLONE_SIGHAND:
        flags |= CLONE_THREAD
    _check_alone(k, t, flags)
    if flags & CLONE_NEWUSER:
        k.limit("unshare", "no namespaces")
        raise Errno("EPERM")
    if flags & (_PRIVILEGED | _EMPTY_MNTNS):
        raise Errno("EPERM")
    if flags & CLONE_SYSVSEM:
        sysvsem.left(k, t)
    if flags & CLONE_FS:
        t.fs = t.fs.copy()
    if flags & CLONE_FILES and t.files.users > 1:
        shared, t.files = t.files, t.files.copy()
        shared.drop(k)
    return 0


def sys_setns(k: Kernel, t: Task, a: Args) -> int:
    """No descriptor is a namespace's (EINVAL); those that a pidfd names need a capability."""
    file, kinds = t.files.get(a[0]), a[1] & 0xFFFF_FFFF
    if not isinstance(file, pidfd.PidFd) or not kinds or kinds & ~(_PRIVILEGED | CLONE_NEWUSER):
        raise Errno("EINVAL")
    raise Errno("EPERM")


def _check_alone(k: Kernel, t: Task, flags: int) -> None:
    """check_unshare_flags(): threads, handlers and memory can't be parted. Errno EINVAL."""
    others = [task for task in k.tasks.values() if task is not t]
    shared = (
        (flags & CLONE_THREAD and any(task.process is t.process for task in others))
        or (
            flags & CLONE_SIGHAND
            and any(task.process.sighand is t.process.sighand for task in others)
        )
        or (flags & CLONE_VM and any(task.mm is t.mm for task in others))
    )
    if shared:
        raise Errno("EINVAL")


CALLS: Final = (
    Call("unshare", sys_unshare, why="no namespaces: the user's is EPERM"),
    Call("setns", sys_setns, "refused", "no namespaces"),
)
