"""The shadow-stack code of arch/riscv: usercfi.c and its hooks in process.c and mmu_context.h.

The code here tests switches, never a revision's name. A revision's errors result from the places of
its hooks in clone.py, exit.py and exec.py and from the state at those places. Sources: the seed
patch (Message-ID 20240403234054.2020347-16-debug@rivosinc.com) and, for prctl and
map_shadow_stack, usercfi.c as merged. Letters and numbers such as A6 are ids of rules.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shstk.schemas.revisions import parse_default_size
from shstk.schemas.uapi import (
    CLONE_VFORK,
    CLONE_VM,
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    PAGE,
    PR_CFI_BRANCH_LANDING_PADS,
    PR_CFI_DISABLE,
    PR_CFI_ENABLE,
    PR_CFI_LOCK,
    PR_GET_CFI,
    PR_GET_SHADOW_STACK_STATUS,
    PR_SET_CFI,
    PR_SHADOW_STACK_ENABLE,
    PROT_READ,
    PROT_WRITE,
    SHADOW_STACK_SET_TOKEN,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.layout import page_up
from shstk.tracer.kernel.task import CfiState

if TYPE_CHECKING:
    from collections.abc import Callable

    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_U64: Final = 2**64 - 1


def supported(k: Kernel) -> bool:
    return "zicfiss" in k.cpu and not k.nousercfi


def landing_pads_supported(k: Kernel) -> bool:
    return "zicfilp" in k.cpu and not k.nousercfi


def regset_usable(k: Kernel) -> bool:
    """Whether riscv_cfi_get and riscv_cfi_set answer at all."""
    usable = supported(k) or landing_pads_supported(k)
    return usable or k.row["cfi_regset"] == "always"


def set_base(t: Task, base: int, size: int) -> None:
    t.cfi.shdw_stk_base, t.cfi.shdw_stk_size = base, size


def set_active(t: Task, ssp: int) -> None:
    t.hart.ssp = ssp


def set_enabled(t: Task, enabled: bool) -> None:
    t.cfi.ubcfi_en = t.hart.sse = enabled


def calc_size(k: Kernel, stack_size: int) -> int:
    """A6: the size requested, or by default the revision's share of the caller's RLIMIT_STACK."""
    if stack_size:
        return page_up(stack_size)
    div, cap = parse_default_size(k.row["default_size"])
    return page_up(min(k.current.rlimit("STACK") // div, cap))


def allocate(k: Kernel, addr: int, size: int, token_at: int | None = None) -> int:
    """allocate_shadow_stack: returns the base. token_at: the offset that a token points to."""
    mm = k.current.mm
    assert mm is not None
    flags = MAP_ANONYMOUS | MAP_PRIVATE | (MAP_FIXED_NOREPLACE if addr else 0)
    base = mm.map(k, addr, size, PROT_READ | PROT_WRITE, flags, shadow_stack=True)
    if token_at is not None:
        try:
            _create_token(k, base + token_at)
        except Errno:
            mm.unmap(k, base, size)
            raise
    return base


def _create_token(k: Kernel, ssp: int) -> None:
    """create_rstor_token: store `ssp` in the word below it."""
    if ssp % 8:
        raise Errno("EINVAL")
    usermem.ss_put(k, k.current, ssp - 8, ssp)


# Hooks.


def alloc_thread_stack(k: Kernel, child: Task, flags: int, stack_size: int) -> int:
    """Called by copy_thread. The child's ssp, or 0 if it gets no stack of its own (A1 to A5)."""
    if not supported(k):
        return 0
    if child.cfi.ubcfi_en == (k.row["clone_gate"] == "inverted"):
        return 0
    if flags & CLONE_VFORK:
        set_base(child, 0, 0)
        return 0
    if not flags & CLONE_VM:
        return 0
    size = calc_size(k, stack_size)
    base = allocate(k, 0, size)
    set_base(child, base, size)
    return base + size


def release(k: Kernel, t: Task) -> None:
    """shstk_release (X1 to X4). It unmaps whatever is in the recorded range by now (X7)."""
    if not supported(k) or not t.cfi.ubcfi_en:
        return
    if t.mm is None or t.mm is not k.current.mm:
        return
    if t.cfi.shdw_stk_base == 0:
        return
    with suppress(Errno):  # the kernel ignores vm_munmap's error
        t.mm.unmap(k, t.cfi.shdw_stk_base, t.cfi.shdw_stk_size)
    set_base(t, 0, 0)


def exit_thread(k: Kernel, t: Task) -> None:
    """Hook: late in do_exit, and on copy_process's error path after copy_thread."""
    if k.row["release_hook"] == "exit_thread":
        release(k, t)


def deactivate_mm(k: Kernel, t: Task) -> None:
    """Hook: in mm_release, at exit and at exec."""
    if k.row["release_hook"] == "deactivate_mm":
        release(k, t)


def start_thread(k: Kernel, t: Task) -> None:
    """Hook: exec disables all of this for the new program (E1), and may clear the lock (E2)."""
    locked = t.cfi.ubcfi_locked and k.row["exec_lock"] == "kept"
    t.cfi = CfiState(ubcfi_locked=locked)
    set_enabled(t, False)
    set_active(t, 0)
    t.hart.lpe = t.hart.elp = False


# prctl.


def _get_status(k: Kernel, t: Task, pointer: int) -> int:
    usermem.put_u64(k, t, pointer, PR_SHADOW_STACK_ENABLE if t.cfi.ubcfi_en else 0)
    return 0


def _set_status(k: Kernel, t: Task, status: int) -> int:
    """P2 to P8."""
    if status & ~PR_SHADOW_STACK_ENABLE or t.cfi.ubcfi_locked:
        raise Errno("EINVAL")
    enable = bool(status & PR_SHADOW_STACK_ENABLE)
    if enable:
        if t.cfi.ubcfi_en:
            return 0
        if t.cfi.shdw_stk_base:
            raise Errno("EINVAL")
        size = calc_size(k, 0)
        try:
            base = allocate(k, 0, size)
        except Errno:
            raise Errno("ENOMEM") from None
        set_base(t, base, size)
        set_active(t, base + size)
    else:
        release(k, t)
    set_enabled(t, enable)
    return 0


def _lock_status(k: Kernel, t: Task, arg: int) -> int:
    if not t.cfi.ubcfi_en or (arg and k.row["lock_arg"] == "zero"):
        raise Errno("EINVAL")
    t.cfi.ubcfi_locked = True
    return 0


# The prctls of the shadow stack, in the order of their numbers.
_STATUS: Final[tuple[Callable[[Kernel, Task, int], int], ...]] = (
    _get_status,
    _set_status,
    _lock_status,
)


def first_number(k: Kernel) -> int:
    """The number of the first of the three shadow-stack prctls."""
    return int(k.row["prctl_numbers"]) if k.abi == "own" else PR_GET_SHADOW_STACK_STATUS


def cfi_prctl(k: Kernel) -> str:
    """Which PR_GET_CFI and PR_SET_CFI exist. The merged ABI has them under every revision."""
    value = k.row["cfi_prctl"]
    return "known_bits" if value == "absent" and k.abi == "merged" else value


def prctl(k: Kernel, t: Task, a: Args) -> int | None:
    """The result of a prctl for control-flow integrity, None for any other prctl."""
    option, arg2, arg3, arg4, arg5, _ = a
    first = first_number(k)
    if first <= option < first + len(_STATUS):
        if arg3 or arg4 or arg5 or not supported(k):
            raise Errno("EINVAL")
        return _STATUS[option - first](k, t, arg2)
    if option in (PR_GET_CFI, PR_SET_CFI) and cfi_prctl(k) != "absent":
        if arg2 != PR_CFI_BRANCH_LANDING_PADS or arg4 or arg5 or not landing_pads_supported(k):
            raise Errno("EINVAL")
        return (_get_cfi if option == PR_GET_CFI else _set_cfi)(k, t, arg3)
    return None


def _get_cfi(k: Kernel, t: Task, pointer: int) -> int:
    state = PR_CFI_ENABLE if t.cfi.lp_en else PR_CFI_DISABLE
    usermem.put_u64(k, t, pointer, state | (PR_CFI_LOCK if t.cfi.lp_locked else 0))
    return 0


def _set_cfi(k: Kernel, t: Task, control: int) -> int:
    """P10."""
    known = PR_CFI_ENABLE | PR_CFI_DISABLE | PR_CFI_LOCK
    switch = control & (PR_CFI_ENABLE | PR_CFI_DISABLE)
    refused = control & ~known if cfi_prctl(k) == "known_bits" else 0
    if refused or switch not in (PR_CFI_ENABLE, PR_CFI_DISABLE) or t.cfi.lp_locked:
        raise Errno("EINVAL")
    t.cfi.lp_en = t.hart.lpe = switch == PR_CFI_ENABLE
    t.cfi.lp_locked = t.cfi.lp_en and bool(control & PR_CFI_LOCK)
    return 0


# map_shadow_stack.


def sys_map_shadow_stack(k: Kernel, t: Task, a: Args) -> int:
    """M1 to M9, checked in this order."""
    addr, size, flags = a[0], a[1], a[2] & 0xFFFF_FFFF
    token = bool(flags & SHADOW_STACK_SET_TOKEN)
    if not supported(k):
        raise Errno("EOPNOTSUPP")
    if flags & ~SHADOW_STACK_SET_TOKEN:
        raise Errno("EINVAL")
    if token and size < 8:
        raise Errno("ENOSPC")
    if addr % PAGE:
        raise Errno("EINVAL")
    if page_up(size) > _U64:
        raise Errno("EOVERFLOW")
    base = allocate(k, addr, page_up(size), token_at=size if token else None)
    if token and k.row["map_token_returns"] == "token":
        return base + size - 8
    return base


CALLS = (Call("map_shadow_stack", sys_map_shadow_stack),)
