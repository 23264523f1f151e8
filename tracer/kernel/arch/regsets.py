"""The register sets of ptrace (struct user_regset of arch/riscv)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.uapi import NT_PRFPREG, NT_PRSTATUS, NT_RISCV_USER_CFI, NT_RISCV_VECTOR
from shstk.schemas.uapi import PTRACE_CFI_BRANCH_EXPECTED_LANDING_PAD_STATE as ELP
from shstk.schemas.uapi import PTRACE_CFI_BRANCH_LANDING_PAD_EN_STATE as LP_EN
from shstk.schemas.uapi import PTRACE_CFI_BRANCH_LANDING_PAD_LOCK_STATE as LP_LOCK
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_EN_STATE as SS_EN
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_LOCK_STATE as SS_LOCK
from shstk.schemas.uapi import PTRACE_CFI_SHADOW_STACK_PTR_STATE as SS_PTR
from shstk.tracer.kernel.arch import vectors
from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer.kernel.task import Task

CFI_SETTABLE: Final = ELP | SS_PTR


class Regset(NamedTuple):
    """iov_len must be a multiple of `word` bytes."""

    word: int
    get: Callable[[Task], bytes]
    set: Callable[[Task, bytes], None]


def _get_gpr(t: Task) -> bytes:
    """user_regs_struct: pc, x1..x31."""
    return struct.pack("<32Q", t.hart.pc, *t.hart.regs()[1:])


def _set_gpr(t: Task, data: bytes) -> None:
    words = struct.unpack(f"<{len(data) // 8}Q", data)
    for i, word in enumerate(words):
        if i == 0:
            t.hart.pc = word & ~1
        else:
            t.hart.set_x(i, word)


def _get_fpr(t: Task) -> bytes:
    """__riscv_d_ext_state: f0..f31, fcsr."""
    return struct.pack("<32QI4x", *(t.hart.f(i) for i in range(32)), t.hart.fcsr)


def _set_fpr(t: Task, data: bytes) -> None:
    for i, word in enumerate(struct.unpack(f"<{len(data) // 8}Q", data)):
        if i < 32:
            t.hart.set_f(i, word)
        else:
            t.hart.fcsr = word & 0xFF


def _get_cfi(t: Task) -> bytes:
    """user_cfi_state: {cfi_state, shstk_ptr}."""
    cfi, state, ssp = t.cfi, 0, 0
    if cfi.lp_en:
        state |= LP_EN | LP_LOCK * cfi.lp_locked | ELP * t.hart.elp
    if cfi.ubcfi_en:
        state |= SS_EN | SS_PTR | SS_LOCK * cfi.ubcfi_locked
        ssp = t.hart.ssp
    return struct.pack("<QQ", state, ssp)


def _set_cfi(t: Task, data: bytes) -> None:
    """The tracer can't enable, disable or lock anything; it can set ssp and ELP."""
    state, ssp = struct.unpack("<QQ", data.ljust(16, b"\0"))
    if state & ~CFI_SETTABLE:
        raise Errno("EINVAL")
    if t.cfi.lp_en:
        t.hart.elp = bool(state & ELP)
    if t.cfi.ubcfi_en and state & SS_PTR:
        t.hart.ssp = ssp


REGSETS: Final = {
    NT_PRSTATUS: Regset(8, _get_gpr, _set_gpr),
    NT_PRFPREG: Regset(8, _get_fpr, _set_fpr),
    NT_RISCV_VECTOR: Regset(4, vectors.get_regset, vectors.set_regset),
    NT_RISCV_USER_CFI: Regset(8, _get_cfi, _set_cfi),
}
