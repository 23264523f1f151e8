"""process_vm_readv and process_vm_writev: copy between the memories of two processes.

Unlike ptrace's, these accesses obey the target's permissions (mm/process_vm_access.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.transfer import Iov, gather, get_iov, scatter, total
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process import ptrace
from shstk.tracer.kernel.task import Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


def _checked(k: Kernel, t: Task, a: Args) -> tuple[Iov, Iov, Task] | None:
    """process_vm_rw(): the memory here, the memory there, and its task; None if there is nothing to
    copy, in which case the task need not exist.

    Errno: EINVAL, EFAULT, ESRCH, EPERM."""
    if a[5]:
        raise Errno("EINVAL")
    here = get_iov(k, t, a[1], a[2])
    if not total(here):
        return None
    there = get_iov(k, t, a[3], a[4])
    if not total(there):
        return None
    target = k.find(a[0] & 0xFFFF_FFFF)
    if target is None:
        raise Errno("ESRCH")
    if not ptrace.may_access(t, target):
        raise Errno("EPERM")
    if target.mm is None:
        raise Errno("ESRCH")
    return here, there, target


def sys_process_vm_readv(k: Kernel, t: Task, a: Args) -> int:
    if (checked := _checked(k, t, a)) is None:
        return 0
    here, there, target = checked
    data = gather(k, target, there)[: total(here)]
    usermem.note(k, target, "read", there[0][0], data)
    return scatter(k, t, here, data, record=True)


def sys_process_vm_writev(k: Kernel, t: Task, a: Args) -> int:
    if (checked := _checked(k, t, a)) is None:
        return 0
    here, there, target = checked
    return scatter(k, target, there, gather(k, t, here)[: total(there)], record=True)


CALLS: Final = (
    Call("process_vm_readv", sys_process_vm_readv),
    Call("process_vm_writev", sys_process_vm_writev),
)
