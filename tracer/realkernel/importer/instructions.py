"""Shadow-stack instructions and landing pads, and the traps of user mode."""

from __future__ import annotations

from typing import Any, Final

from shstk.schemas.causes import (
    INSTRUCTION_ACCESS,
    INSTRUCTION_PAGE,
    LANDING_PAD_FAULT,
    LOAD_ACCESS,
    LOAD_PAGE,
    SHADOW_STACK_FAULT,
    SOFTWARE_CHECK,
    STORE_ACCESS,
    STORE_PAGE,
)
from shstk.tracer.importers.rows import Row
from shstk.tracer.realkernel.events import Call, Cfi, Trap
from shstk.tracer.realkernel.importer.state import OnCall, Story, Task

_UNFETCHED: Final = (INSTRUCTION_ACCESS, INSTRUCTION_PAGE)
_PAGE_FAULTS: Final = (INSTRUCTION_PAGE, LOAD_PAGE, STORE_PAGE)
_DATA: Final = (LOAD_ACCESS, STORE_ACCESS, LOAD_PAGE, STORE_PAGE)
_NO_FAULT: Final = 255
_NO_LABEL: Final = 0xFFFF_FFFF
_LABEL_BITS: Final = 0xF_FFFF
_ACCESSING: Final = ("sspush", "sspopchk", "ssamoswap")
_U64: Final = 2**64 - 1


def _kind(word: int) -> str:
    """Of the instructions that the plugin watches (kind_of in plugin.c)."""
    if word == 0x6081 or word & 0xFE0F_FFFF == 0xCE00_4073:
        return "sspush"
    if word == 0x6281 or (word & 0xFFF0_7FFF == 0xCDC0_4073 and word >> 15 & 31):
        return "sspopchk"
    if word & 0xFFFF_F07F == 0xCDC0_4073:
        return "ssrdp"
    if word & 0x7F == 0x2F:
        return "ssamoswap"
    if word & 0xFFF == 0x17:
        return "lpad"
    only_reads = word >> 12 & 3 in (2, 3) and not word >> 15 & 31  # csrrs, csrrc of x0
    return "ssp_read" if only_reads else "ssp_write"


# kind -> (value, operand) of its row.
_VALUES: Final[dict[str, Any]] = {
    "sspush": lambda e: (e.operand, None),
    "sspopchk": lambda e: (e.value if e.accesses else None, e.operand),
    "ssamoswap": lambda e: (
        e.operand,
        e.old if e.accesses > 1 else e.value if e.accesses else None,
    ),
    "ssrdp": lambda e: (e.before, None),
    "ssp_read": lambda e: (e.before, None),
    "ssp_write": lambda e: (e.after, None),
    "lpad": lambda e: (e.word >> 12, e.operand >> 12 & _LABEL_BITS),
}


def executed(s: Story, t: Task, e: Cfi) -> None:
    settle(s, t, retried=e.pc)
    kind = _kind(e.word)
    value, operand = _VALUES[kind](e)
    address = None
    if kind in _ACCESSING:
        below = (e.before - 8) & _U64
        address = e.address if e.accesses else below if kind == "sspush" else e.before
    t.cfi = {
        "seq": s.instruction(),
        "tid": t.tid,
        "mm": t.mm,
        "pc": e.pc,
        "kind": kind,
        "addr": address,
        "value": value,
        "operand": operand,
        "ssp_before": e.before,
        "ssp_after": e.after,
        "fault": None if e.fault == _NO_FAULT else e.fault,
    }
    t.word, t.cfi_pc = e.word, e.pc
    t.pc, t.ssp = e.pc, e.after


def settle(s: Story, t: Task, retried: int | None = None, signalled: bool = False) -> None:
    """Write the row of the task's last instruction, unless it was a first try: it met a page that
    was not there yet, and is executed again. If it raised a signal (`signalled`), it was not."""
    row, t.cfi = t.cfi, None
    if row is None:
        return
    resolved = row["fault"] in _PAGE_FAULTS and not signalled
    if not resolved and not (retried == row["pc"] and _untouched(row)):
        s.rows.put("cfi", **row)


def _untouched(row: Row) -> bool:
    """A pop that read nothing: its page was not there."""
    return row["kind"] == "sspopchk" and row["value"] is None


def break_off(s: Story, t: Task) -> None:
    """The events end here: what became of an instruction that trapped is not told."""
    row = t.cfi
    if row is not None and (row["fault"] is not None or _untouched(row)):
        t.cfi = None
    settle(s, t)


def trapped(s: Story, t: Task, e: Trap) -> None:
    t.trap = e
    t.pc, t.sp, t.ssp = e.pc, e.sp, e.ssp
    if e.cause == SOFTWARE_CHECK and e.tval == LANDING_PAD_FAULT and not _at_pad(t, e.pc):
        settle(s, t)
        s.uncounted()  # QEMU looks for the pad first
        t.word = 0
        t.cfi = {
            "seq": s.instruction(),
            "tid": t.tid,
            "mm": t.mm,
            "pc": e.pc,
            "kind": "lpad",
            "value": _NO_LABEL,
            "operand": e.t2 >> 12 & _LABEL_BITS,
            "ssp_before": e.ssp,
            "ssp_after": e.ssp,
            "fault": e.cause,
        }


def _at_pad(t: Task, pc: int) -> bool:
    return t.cfi is not None and t.cfi["pc"] == pc and t.cfi["kind"] == "lpad"


def _force_sig_fault(s: Story, t: Task, e: Call) -> None:
    """An exception becomes a signal."""
    signal, code, address = e.a[0], e.a[1] & 0x7FFF_FFFF, e.a[2]
    trap, row = t.trap, t.cfi
    if trap is None:
        return
    checked = trap.cause == SOFTWARE_CHECK and row is not None and row["pc"] == trap.pc
    values = (row["value"], row["operand"]) if checked and row is not None else (None, None)
    if row is not None and row["kind"] == "lpad":
        values = values[::-1]
    settle(s, t, signalled=True)
    popped = trap.cause == SOFTWARE_CHECK and trap.tval == SHADOW_STACK_FAULT
    address_of_data = trap.tval if trap.cause in _DATA else None
    s.put(
        "faults",
        t,
        pc=trap.pc,
        word=_word(s, t, trap),
        cause=trap.cause & 0xFF,
        tval=trap.tval,
        address=row["addr"] if popped and row is not None else address_of_data,
        expected=values[0],
        found=values[1],
        signo=signal,
        code=code,
        si_addr=address,
    )


def _word(s: Story, t: Task, trap: Trap) -> int | None:
    """The instruction at the trap. The kernel's own right to read there is off while it handles it,
    so the plugin can't: it is a shadow-stack instruction, or it is in a file that is known."""
    if trap.cause in _UNFETCHED:
        return None
    if t.word and t.cfi_pc == trap.pc:
        return t.word
    low = s.code_at(t.mm, trap.pc)
    if low is None:
        return None
    return low if low & 3 == 3 else low & 0xFFFF


ON_CALL: Final[dict[str, OnCall]] = {"force_sig_fault": _force_sig_fault}
