"""prctl: one row per option. Those of control-flow integrity are in shstk.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    PR_CAP_AMBIENT,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    PR_GET_AUXV,
    PR_GET_CHILD_SUBREAPER,
    PR_GET_DUMPABLE,
    PR_GET_IO_FLUSHER,
    PR_GET_KEEPCAPS,
    PR_GET_NAME,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_PDEATHSIG,
    PR_GET_SECUREBITS,
    PR_GET_TAGGED_ADDR_CTRL,
    PR_GET_THP_DISABLE,
    PR_GET_TID_ADDRESS,
    PR_GET_TIMERSLACK,
    PR_GET_TIMING,
    PR_RISCV_V_GET_CONTROL,
    PR_RISCV_V_SET_CONTROL,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_IO_FLUSHER,
    PR_SET_KEEPCAPS,
    PR_SET_MM,
    PR_SET_NAME,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PR_SET_SECUREBITS,
    PR_SET_TAGGED_ADDR_CTRL,
    PR_SET_THP_DISABLE,
    PR_SET_TIMERSLACK,
    PR_SET_TIMING,
)
from shstk.tracer.kernel.arch import shstk, tagged, vectors
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.process.identity import CAP_LAST

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_COMM: Final = 16  # TASK_COMM_LEN, with the NUL
_KEEP_CAPS: Final = 0x10  # SECBIT_KEEP_CAPS
_LOCKS: Final = 0xAAA  # each above the bit that it locks
_MM_WITH_SIZE: Final = (12, 14, 15)  # PR_SET_MM_AUXV, MAP, MAP_SIZE
_EXCEPT_ADVISED: Final = 2
_AUXV: Final = 2 * (22 + 10 + 1) * 8  # AT_VECTOR_SIZE longs
_UNPRIVILEGED: Final = 0xF00  # EXEC_RESTRICT_FILE, EXEC_DENY_INTERACTIVE and their locks


def _set_pdeathsig(k: Kernel, t: Task, a: Args) -> int:
    if a[1] > 64:
        raise Errno("EINVAL")
    t.pdeath_signal = a[1]
    return 0


def _get_pdeathsig(k: Kernel, t: Task, a: Args) -> int:
    usermem.put_u32(k, t, a[1], t.pdeath_signal)
    return 0


def _get_dumpable(k: Kernel, t: Task, a: Args) -> int:
    return t.process.dumpable


def _set_dumpable(k: Kernel, t: Task, a: Args) -> int:
    if a[1] not in (0, 1):
        raise Errno("EINVAL")
    t.process.dumpable = a[1]
    return 0


def _set_name(k: Kernel, t: Task, a: Args) -> int:
    name = t.space.read_cstr(a[1], _COMM - 1)
    if name is None:
        raise Errno("EFAULT")
    t.comm = name.decode("utf-8", "surrogateescape")
    return 0


def _get_name(k: Kernel, t: Task, a: Args) -> int:
    name = t.comm.encode("utf-8", "surrogateescape")
    usermem.put(k, t, a[1], name[: _COMM - 1].ljust(_COMM, b"\0"))
    return 0


def _capbset_read(k: Kernel, t: Task, a: Args) -> int:
    """The bounding set is full, as that of every user."""
    if a[1] > CAP_LAST:
        raise Errno("EINVAL")
    return 1


def _refuse(k: Kernel, t: Task, a: Args) -> int:
    """It needs a capability, which is checked before the arguments."""
    raise Errno("EPERM")


def _get_securebits(k: Kernel, t: Task, a: Args) -> int:
    return t.securebits


def _set_securebits(k: Kernel, t: Task, a: Args) -> int:
    """cap_task_prctl(): without a capability, only the bits for exec checks can be changed; what is
    locked stays, and a call that changes nothing is refused."""
    changed, locked = t.securebits ^ a[1], t.securebits & _LOCKS
    unlocks = locked & ~a[1]
    if not changed or changed & ~_UNPRIVILEGED or locked >> 1 & changed or unlocks:
        raise Errno("EPERM")
    t.securebits = a[1]
    return 0


def _get_keepcaps(k: Kernel, t: Task, a: Args) -> int:
    return int(bool(t.securebits & _KEEP_CAPS))


def _set_keepcaps(k: Kernel, t: Task, a: Args) -> int:
    if a[1] > 1:
        raise Errno("EINVAL")
    t.securebits = t.securebits & ~_KEEP_CAPS | (_KEEP_CAPS if a[1] else 0)
    return 0


def _set_timerslack(k: Kernel, t: Task, a: Args) -> int:
    t.timer_slack_ns = a[1] or t.default_timer_slack_ns
    return 0


def _get_timerslack(k: Kernel, t: Task, a: Args) -> int:
    return t.timer_slack_ns


def _set_timing(k: Kernel, t: Task, a: Args) -> int:
    """PR_TIMING_STATISTICAL is the only way."""
    if a[1]:
        raise Errno("EINVAL")
    return 0


def _get_timing(k: Kernel, t: Task, a: Args) -> int:
    return 0


def _get_tid_address(k: Kernel, t: Task, a: Args) -> int:
    usermem.put_u64(k, t, a[1], t.clear_child_tid)
    return 0


def _set_child_subreaper(k: Kernel, t: Task, a: Args) -> int:
    t.process.child_subreaper = bool(a[1])
    return 0


def _get_child_subreaper(k: Kernel, t: Task, a: Args) -> int:
    usermem.put_u32(k, t, a[1], int(t.process.child_subreaper))
    return 0


def _set_no_new_privs(k: Kernel, t: Task, a: Args) -> int:
    if a[1] != 1 or any(a[2:5]):
        raise Errno("EINVAL")
    t.no_new_privs = True
    return 0


def _get_no_new_privs(k: Kernel, t: Task, a: Args) -> int:
    if any(a[1:5]):
        raise Errno("EINVAL")
    return int(t.no_new_privs)


def _cap_ambient(k: Kernel, t: Task, a: Args) -> int:
    """PR_CAP_AMBIENT: a user without capabilities can't raise any."""
    is_set, raised, lower, clear_all = 1, 2, 3, 4
    if any(a[3:5]) or a[2] > (0 if a[1] == clear_all else CAP_LAST):
        raise Errno("EINVAL")
    if a[1] not in (is_set, raised, lower, clear_all):
        raise Errno("EINVAL")
    if a[1] == raised:
        raise Errno("EPERM")
    return 0


def _set_mm(k: Kernel, t: Task, a: Args) -> int:
    """prctl_set_mm(): whether there is an argument too many, then CAP_SYS_RESOURCE."""
    if a[4] or (a[3] and a[1] not in _MM_WITH_SIZE):
        raise Errno("EINVAL")
    raise Errno("EPERM")


def _set_thp_disable(k: Kernel, t: Task, a: Args) -> int:
    """There are no huge pages; a[2]: PR_THP_DISABLE_EXCEPT_ADVISED, since 6.18."""
    if any(a[3:5]) or a[2] & ~_EXCEPT_ADVISED or (a[2] and not a[1]):
        raise Errno("EINVAL")
    t.process.thp_disable = 1 | a[2] if a[1] else 0
    return 0


def _get_thp_disable(k: Kernel, t: Task, a: Args) -> int:
    if any(a[1:5]):
        raise Errno("EINVAL")
    return t.process.thp_disable


def _get_auxv(k: Kernel, t: Task, a: Args) -> int:
    """The whole of mm->saved_auxv, zeros after its end."""
    if any(a[3:5]):
        raise Errno("EINVAL")
    assert t.mm is not None
    usermem.put(k, t, a[1], t.mm.auxv.ljust(_AUXV, b"\0")[: a[2]])
    return _AUXV


_OPTIONS: Final[dict[int, Callable[[Kernel, Task, Args], int]]] = {
    PR_SET_PDEATHSIG: _set_pdeathsig,
    PR_GET_PDEATHSIG: _get_pdeathsig,
    PR_GET_DUMPABLE: _get_dumpable,
    PR_SET_DUMPABLE: _set_dumpable,
    PR_SET_NAME: _set_name,
    PR_GET_NAME: _get_name,
    PR_CAPBSET_READ: _capbset_read,
    PR_CAPBSET_DROP: _refuse,
    PR_GET_SECUREBITS: _get_securebits,
    PR_SET_SECUREBITS: _set_securebits,
    PR_GET_KEEPCAPS: _get_keepcaps,
    PR_SET_KEEPCAPS: _set_keepcaps,
    PR_GET_TIMING: _get_timing,
    PR_SET_TIMING: _set_timing,
    PR_GET_TID_ADDRESS: _get_tid_address,
    PR_SET_IO_FLUSHER: _refuse,
    PR_GET_IO_FLUSHER: _refuse,
    PR_SET_TIMERSLACK: _set_timerslack,
    PR_GET_TIMERSLACK: _get_timerslack,
    PR_SET_CHILD_SUBREAPER: _set_child_subreaper,
    PR_GET_CHILD_SUBREAPER: _get_child_subreaper,
    PR_SET_NO_NEW_PRIVS: _set_no_new_privs,
    PR_GET_NO_NEW_PRIVS: _get_no_new_privs,
    PR_CAP_AMBIENT: _cap_ambient,
    PR_SET_MM: _set_mm,
    PR_SET_THP_DISABLE: _set_thp_disable,
    PR_GET_THP_DISABLE: _get_thp_disable,
    PR_GET_AUXV: _get_auxv,
    PR_SET_TAGGED_ADDR_CTRL: tagged.set_tagged_addr_ctrl,
    PR_GET_TAGGED_ADDR_CTRL: tagged.get_tagged_addr_ctrl,
    PR_RISCV_V_SET_CONTROL: vectors.set_control,
    PR_RISCV_V_GET_CONTROL: vectors.get_control,
}


_LEFT_OUT: Final = (
    "no SECCOMP, MCE_KILL, MDWE, SET_VMA, SYSCALL_USER_DISPATCH, SPECULATION, SCHED_CORE,"
    " MEMORY_MERGE, TIMER_CREATE_RESTORE_IDS, FUTEX_HASH: -EINVAL"
)


def sys_prctl(k: Kernel, t: Task, a: Args) -> int:
    option = a[0] & 0xFFFF_FFFF
    a = (option, *a[1:])
    if (result := shstk.prctl(k, t, a)) is not None:
        return result
    if option not in _OPTIONS:
        raise Errno("EINVAL")
    return _OPTIONS[option](k, t, a)


CALLS = (Call("prctl", sys_prctl, why=_LEFT_OUT),)
