"""prctl: one row an option; what is about control-flow integrity stands in shstk.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

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
    """PR_CAP_AMBIENT: a user without capabilities has none to raise."""
    is_set, raised, lower, clear_all = 1, 2, 3, 4
    if a[1] not in (is_set, raised, lower, clear_all) or a[2] > 40 or any(a[3:5]):
        raise Errno("EINVAL")
    if a[1] == raised:
        raise Errno("EPERM")
    return 0


_OPTIONS: Final[dict[int, Callable[[Kernel, Task, Args], int]]] = {
    1: _set_pdeathsig,
    2: _get_pdeathsig,
    3: _get_dumpable,
    4: _set_dumpable,
    15: _set_name,
    16: _get_name,
    23: _capbset_read,
    29: _set_timerslack,
    30: _get_timerslack,
    36: _set_child_subreaper,
    37: _get_child_subreaper,
    38: _set_no_new_privs,
    39: _get_no_new_privs,
    47: _cap_ambient,
    55: tagged.set_tagged_addr_ctrl,
    56: tagged.get_tagged_addr_ctrl,
    69: vectors.set_control,
    70: vectors.get_control,
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
