"""mlock(2) and its kin: pages that stay in memory, up to RLIMIT_MEMLOCK (mm/mlock.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT, PAGE
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm.layout import TASK_SIZE, page_up
from shstk.tracer.kernel.mm.mm import Mm
from shstk.tracer.kernel.mm.vma import LOCKED

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_ALL: Final = MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT
_NONE: Final = frozenset[str]()
_LO: Final = frozenset({"lo"})


def sys_mlock(k: Kernel, t: Task, a: Args) -> int:
    return _lock(k, t, a, _LO)


def sys_mlock2(k: Kernel, t: Task, a: Args) -> int:
    if a[2] & 0xFFFF_FFFF & ~MLOCK_ONFAULT:
        raise Errno("EINVAL")
    return _lock(k, t, a, LOCKED if a[2] & MLOCK_ONFAULT else _LO)


def _lock(k: Kernel, t: Task, a: Args, flags: frozenset[str]) -> int:
    """do_mlock(): what was locked before a hole, or before a page that can't be had, stays so."""
    mm, limit = t.mm, t.rlimit("MEMLOCK")
    assert mm is not None
    if not limit:
        raise Errno("EPERM")
    start, end = _range(mm, a)
    already = sum(high - low for low, high, old in _parts(mm, start, end) if "lo" in old)
    if mm.vmas.locked + end - start - already > limit:
        raise Errno("ENOMEM")
    _apply(mm, start, end, flags)
    try:
        mm.fault_in(start, end)
    except Errno as error:
        raise Errno("EAGAIN" if error.name == "ENOMEM" else "ENOMEM") from None
    return 0


def sys_munlock(k: Kernel, t: Task, a: Args) -> int:
    assert t.mm is not None
    _apply(t.mm, *_range(t.mm, a), _NONE)
    return 0


def _range(mm: Mm, a: Args) -> tuple[int, int]:
    """Whole pages. The end may lie above all addresses."""
    start = mm.untagged(a[0])
    return start & -PAGE, (start & -PAGE) + (page_up(start % PAGE + a[1]) & 2**64 - 1)


def _parts(mm: Mm, start: int, end: int) -> Iterator[tuple[int, int, frozenset[str]]]:
    for vma in mm.vmas.touching(start, end):
        yield max(vma.start, start), min(vma.end, end), vma.flags


def _apply(mm: Mm, start: int, end: int, flags: frozenset[str]) -> None:
    """apply_vma_lock_flags. Errno EINVAL; ENOMEM at a hole, after the areas below it changed."""
    if end >= 1 << 64:
        raise Errno("EINVAL")
    at = start
    for low, high, old in _parts(mm, start, end):
        if low > at:
            break
        if "de" not in old:
            mm.set_flags(low, high, flags, LOCKED - flags)
        at = high
    if at < end:
        raise Errno("ENOMEM")


def sys_mlockall(k: Kernel, t: Task, a: Args) -> int:
    mm, how, limit = t.mm, a[0] & 0xFFFF_FFFF, t.rlimit("MEMLOCK")
    assert mm is not None
    if not how or how & ~_ALL or how == MCL_ONFAULT:
        raise Errno("EINVAL")
    if not limit:
        raise Errno("EPERM")
    if how & MCL_CURRENT and mm.vmas.total > limit:
        raise Errno("ENOMEM")
    flags = LOCKED if how & MCL_ONFAULT else _LO
    mm.locks = flags if how & MCL_FUTURE else _NONE
    if how & MCL_CURRENT:
        _apply_all(mm, flags)
        mm.try_fault_in(0, TASK_SIZE)
    return 0


def sys_munlockall(k: Kernel, t: Task, a: Args) -> int:
    assert t.mm is not None
    t.mm.locks = _NONE
    _apply_all(t.mm, _NONE)
    return 0


def _apply_all(mm: Mm, flags: frozenset[str]) -> None:
    for low, high, old in list(_parts(mm, 0, TASK_SIZE)):
        if "de" not in old:
            mm.set_flags(low, high, flags, LOCKED - flags)


CALLS: Final = (
    Call("mlock", sys_mlock),
    Call("mlock2", sys_mlock2),
    Call("munlock", sys_munlock),
    Call("mlockall", sys_mlockall),
    Call("munlockall", sys_munlockall),
)
