"""The vector state of a task, as Linux keeps it (arch/riscv/kernel/vector.c, signal.c, ptrace.c).

A task has one once it has used vectors (`Hart.v_used`: sstatus.VS is on). Every system call
discards it. A child and a new program start without one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import RISCV_V_MAGIC
from shstk.tracer.kernel.call import Args
from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer._core import Hart
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

VLENB: Final = 16
DATA: Final = 32 * VLENB  # riscv_v_vsize
_CSRS: Final = struct.Struct("<5Q")  # vstart, vl, vtype, vcsr, vlenb

# In a signal frame: {magic, size}, __riscv_v_ext_state {the CSRs, datap}, the registers.
_HEAD: Final = struct.Struct("<II5QQ")
FRAME_SIZE: Final = _HEAD.size + DATA

# PR_RISCV_V_SET_CONTROL's argument.
_DEFAULT, _OFF, _ON = 0, 1, 2
_INHERIT: Final = 1 << 4
_KNOWN: Final = 0x1F


def frame(hart: Hart, at: int) -> bytes:
    """save_v_state(): the extension of a signal frame at address `at`; b"" without vectors."""
    if not hart.v_used:
        return b""
    head = _HEAD.pack(RISCV_V_MAGIC, FRAME_SIZE, *hart.v_csrs(), VLENB, at + _HEAD.size)
    return head + _registers(hart)


def datap(extension: bytes) -> int:
    """The address of an extension's registers."""
    return int(_HEAD.unpack_from(extension)[-1])


def restore(hart: Hart, extension: bytes, registers: bytes) -> None:
    """__restore_v_state(). extension: all FRAME_SIZE bytes, or those before the registers."""
    _, _, *csrs, _, _ = _HEAD.unpack_from(extension)
    _set_registers(hart, registers)
    hart.set_v_csrs(*csrs)


HEAD_SIZE: Final = _HEAD.size


def _registers(hart: Hart) -> bytes:
    return b"".join(hart.v(i) for i in range(32))


def _set_registers(hart: Hart, data: bytes) -> None:
    for i in range(len(data) // VLENB):
        hart.set_v(i, data[i * VLENB : (i + 1) * VLENB])


# ptrace.


def get_regset(t: Task) -> bytes:
    """NT_RISCV_VECTOR: __riscv_v_regset_state. Errno: ENODATA without vectors."""
    if not t.hart.v_used:
        raise Errno("ENODATA")
    return _CSRS.pack(*t.hart.v_csrs(), VLENB) + _registers(t.hart)


def set_regset(t: Task, data: bytes) -> None:
    """Registers beyond the end of `data` are unchanged. Errno: ENODATA, EINVAL."""
    whole = get_regset(t)
    whole = data + whole[len(data) :]
    *csrs, vlenb = _CSRS.unpack_from(whole)
    if vlenb != VLENB:
        raise Errno("EINVAL")
    _set_registers(t.hart, whole[_CSRS.size :])
    t.hart.set_v_csrs(*csrs)


# Control over the use of vectors.


def start_program(t: Task) -> None:
    """flush_thread() at exec: riscv_v_vstate_ctrl_init()."""
    after = t.v_control >> 2 & 3
    kept = after << 2 | _INHERIT if t.v_control & _INHERIT else 0
    _set_control(t, (after or _ON) | kept)
    t.hart.v_used = False


def _set_control(t: Task, control: int) -> None:
    t.v_control = control
    t.hart.v_enabled = control & 3 == _ON


def set_control(k: Kernel, t: Task, a: Args) -> int:
    """PR_RISCV_V_SET_CONTROL. Errno: EINVAL; EPERM: vectors that are on can't be turned off."""
    control = a[1]
    now, after = control & 3, control >> 2 & 3
    if control & ~_KNOWN or 3 in (now, after):
        raise Errno("EINVAL")
    if now == _OFF and t.v_control & 3 != _OFF:
        raise Errno("EPERM")
    _set_control(t, control & ~3 | (now or t.v_control & 3))
    return 0


def get_control(k: Kernel, t: Task, a: Args) -> int:
    return t.v_control
