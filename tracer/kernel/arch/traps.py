"""Exceptions: the `faults` row, and the signal that arch/riscv's traps.c or fault.c sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from shstk.schemas.causes import (
    BREAKPOINT,
    ILLEGAL_INSTRUCTION,
    INSTRUCTION_ACCESS,
    INSTRUCTION_MISALIGNED,
    INSTRUCTION_PAGE,
    LOAD_ACCESS,
    LOAD_PAGE,
    SHADOW_STACK_FAULT,
    SOFTWARE_CHECK,
    STORE_ACCESS,
    STORE_PAGE,
)
from shstk.schemas.uapi import (
    BUS_ADRALN,
    BUS_ADRERR,
    ILL_ILLOPC,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SEGV_ACCERR,
    SEGV_CPERR,
    SEGV_MAPERR,
    SI_KERNEL,
    SIGNALS,
    TRAP_BRKPT,
)
from shstk.tracer._core import FAULT_NO_FRAME
from shstk.tracer.kernel.mm.layout import page_down
from shstk.tracer.kernel.signal import signals
from shstk.tracer.kernel.signal.siginfo import SIGKILL
from shstk.tracer.kernel.task import Task

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


class Trap(NamedTuple):
    """An exception that always raises the same signal. si_addr is the instruction's address."""

    signal: str
    code: int


TRAPS: Final = {
    INSTRUCTION_MISALIGNED: Trap("SIGBUS", BUS_ADRALN),
    INSTRUCTION_ACCESS: Trap("SIGSEGV", SEGV_ACCERR),  # pc is the target
    ILLEGAL_INSTRUCTION: Trap("SIGILL", ILL_ILLOPC),
    BREAKPOINT: Trap("SIGTRAP", TRAP_BRKPT),
    LOAD_ACCESS: Trap("SIGSEGV", SEGV_ACCERR),
    STORE_ACCESS: Trap("SIGSEGV", SEGV_ACCERR),  # si_addr is the pc here too (F3)
    SOFTWARE_CHECK: Trap("SIGSEGV", SEGV_CPERR),  # shadow stack or landing pad (F1, F2)
}
# The protections that allow the access.
PAGE_FAULTS: Final = {
    INSTRUCTION_PAGE: PROT_EXEC,
    LOAD_PAGE: PROT_READ | PROT_WRITE,
    STORE_PAGE: PROT_WRITE,
}
UNFETCHED: Final = (INSTRUCTION_ACCESS, INSTRUCTION_PAGE)
DATA_ACCESS: Final = (LOAD_ACCESS, STORE_ACCESS, LOAD_PAGE, STORE_PAGE)


def handle_fault(k: Kernel, t: Task) -> None:
    """Called after STOP_FAULT. A fault that only makes the stack grow is not recorded."""
    cause, tval, word, address, expected, found = t.hart.fault()
    if cause == FAULT_NO_FRAME:
        k.warn(f"out of memory: task {t.tid} is killed at pc {t.hart.pc:#x}")
        signals.send(k, t, SIGKILL, SI_KERNEL)
        return
    assert t.mm is not None
    if cause in PAGE_FAULTS:
        if t.mm.grow_stack(k, t, tval):
            return
        vma = t.mm.vmas.find(tval)
        signal, code = "SIGSEGV", SEGV_MAPERR if vma is None else SEGV_ACCERR
        if vma is not None and vma.prot & PAGE_FAULTS[cause]:
            if page_down(tval) in t.mm.guards:
                code = SEGV_MAPERR  # mm_fault_error: VM_FAULT_SIGSEGV
            elif tval >= vma.backed:
                signal, code = "SIGBUS", BUS_ADRERR
        signo, si_addr = SIGNALS[signal], tval
    else:
        trap = TRAPS[cause]
        signo, code, si_addr = SIGNALS[trap.signal], trap.code, t.hart.pc
    checked = cause == SOFTWARE_CHECK
    popped = checked and tval == SHADOW_STACK_FAULT
    k.rec.row(
        "faults",
        seq=k.seq(),
        tid=t.tid,
        mm=t.mm_id,
        pc=t.hart.pc,
        word=None if cause in UNFETCHED else word,
        cause=cause,
        tval=tval,
        address=address if cause in DATA_ACCESS or popped else None,
        expected=expected if checked else None,
        found=found if checked else None,
        signo=signo,
        code=code,
        si_addr=si_addr,
    )
    signals.force_fault(k, t, signo, code, si_addr)
