"""prctl: one row per option. Those of control-flow integrity are in shstk.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    PR_CAP_AMBIENT,
    PR_CAPBSET_READ,
    PR_GET_CHILD_SUBREAPER,
    PR_GET_DUMPABLE,
    PR_GET_NAME,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_PDEATHSIG,
    PR_GET_TAGGED_ADDR_CTRL,
    PR_GET_TIMERSLACK,
    PR_RISCV_V_GET_CONTROL,
    PR_RISCV_V_SET_CONTROL,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_NAME,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    PR_SET_TAGGED_ADDR_CTRL,
    PR_SET_TIMERSLACK,
)
from shstk.tracer.kernel.arch import shstk, tagged, vectors
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_COMM: Final = 16  # TASK_COMM_LEN, with the NUL


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
    if a[1] > 40:  # CAP_LAST_CAP
        raise Errno("EINVAL")
    return 1


def _set_timerslack(k: Kernel, t: Task, a: Args) -> int:
    t.timer_slack_ns = a[1] or 50_000
    return 0


def _get_timerslack(k: Kernel, t: Task, a: Args) -> int:
    return t.timer_slack_ns


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
    if a[1] not in (is_set, raised, lower, clear_all) or a[2] > 40 or any(a[3:5]):
        raise Errno("EINVAL")
    if a[1] == raised:
        raise Errno("EPERM")
    return 0


_OPTIONS: Final[dict[int, Callable[[Kernel, Task, Args], int]]] = {
    PR_SET_PDEATHSIG: _set_pdeathsig,
    PR_GET_PDEATHSIG: _get_pdeathsig,
    PR_GET_DUMPABLE: _get_dumpable,
    PR_SET_DUMPABLE: _set_dumpable,
    PR_SET_NAME: _set_name,
    PR_GET_NAME: _get_name,
    PR_CAPBSET_READ: _capbset_read,
    PR_SET_TIMERSLACK: _set_timerslack,
    PR_GET_TIMERSLACK: _get_timerslack,
    PR_SET_CHILD_SUBREAPER: _set_child_subreaper,
    PR_GET_CHILD_SUBREAPER: _get_child_subreaper,
    PR_SET_NO_NEW_PRIVS: _set_no_new_privs,
    PR_GET_NO_NEW_PRIVS: _get_no_new_privs,
    PR_CAP_AMBIENT: _cap_ambient,
    PR_SET_TAGGED_ADDR_CTRL: tagged.set_tagged_addr_ctrl,
    PR_GET_TAGGED_ADDR_CTRL: tagged.get_tagged_addr_ctrl,
    PR_RISCV_V_SET_CONTROL: vectors.set_control,
    PR_RISCV_V_GET_CONTROL: vectors.get_control,
}


def sys_prctl(k: Kernel, t: Task, a: Args) -> int:
    option = a[0] & 0xFFFF_FFFF
    a = (option, *a[1:])
    if (result := shstk.prctl(k, t, a)) is not None:
        return result
    if option not in _OPTIONS:
        raise Errno("EINVAL")
    return _OPTIONS[option](k, t, a)


CALLS = (Call("prctl", sys_prctl),)
