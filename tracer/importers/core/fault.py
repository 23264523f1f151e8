"""The exception that ended a process, from its signal, its registers and the instruction at pc.

A core has neither scause nor stval. The signal's code and the instruction tell them, but for a few
cases, in which there is no exception to tell of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shstk.schemas.causes import (
    BREAKPOINT,
    ILLEGAL_INSTRUCTION,
    INSTRUCTION_PAGE,
    LANDING_PAD_FAULT,
    LOAD_ACCESS,
    LOAD_MISALIGNED,
    LOAD_PAGE,
    SHADOW_STACK_FAULT,
    SOFTWARE_CHECK,
    STORE_ACCESS,
    STORE_MISALIGNED,
    STORE_PAGE,
)
from shstk.schemas.uapi import BUS_ADRALN, SEGV_ACCERR, SEGV_CPERR, SEGV_MAPERR, SIGNALS
from shstk.tracer.importers.core.notes import Notes, Thread

_PUSHES: Final = {0xCE104073: 1, 0xCE504073: 5, 0x6081: 1}  # -> the register
_POPS: Final = {0xCDC0C073: 1, 0xCDC2C073: 5, 0x6281: 5}
# Of accesses: by opcode, or by quadrant and funct3 of a compressed one.
_LOADS: Final = (0x03, 0x07, (0, 1), (0, 2), (0, 3), (2, 1), (2, 2), (2, 3))
_STORES: Final = (0x23, 0x27, 0x2F, (0, 5), (0, 6), (0, 7), (2, 5), (2, 6), (2, 7))
_AMO, _LR = 0x2F, 0x02
_LPAD: Final = 0x17  # auipc x0
_NO_PAD: Final = 0xFFFF_FFFF


@dataclass(frozen=True)
class Raised:
    """An exception, as a row of faults has it."""

    cause: int
    tval: int
    address: int | None = None
    expected: int | None = None
    found: int | None = None


def popped(word: int | None) -> int | None:
    """The register that an sspopchk compares; None: it is another instruction."""
    return _POPS.get(word or 0)


def is_shadow_access(word: int | None) -> bool:
    return word in _PUSHES or word in _POPS or _is_swap(word or 0)


def raised(notes: Notes, thread: Thread, word: int | None, at_ssp: int | None) -> Raised | None:
    """The exception that raised the signal; None: it was sent, or it can't be told.

    word: the instruction at pc, if it is known. at_ssp: the word at ssp.
    """
    name = next((name for name, n in SIGNALS.items() if n == notes.signo), "")
    if notes.address is None or notes.code is None or notes.code <= 0:
        return None
    if name == "SIGSEGV" and notes.code == SEGV_CPERR:
        return _software_check(thread, word, at_ssp)
    if name == "SIGSEGV" and notes.code in (SEGV_MAPERR, SEGV_ACCERR):
        return _page(notes.address, thread, word)
    if name == "SIGILL":
        return Raised(ILLEGAL_INSTRUCTION, word or 0)
    if name == "SIGTRAP":
        return Raised(BREAKPOINT, thread.pc)
    kind = _kind(word)
    if name != "SIGBUS" or kind is None:
        return None
    if notes.code == BUS_ADRALN:
        cause = STORE_MISALIGNED if kind == "store" else LOAD_MISALIGNED
    else:
        cause = STORE_PAGE if kind == "store" else LOAD_PAGE
    return Raised(cause, notes.address, notes.address)


def _software_check(thread: Thread, word: int | None, at_ssp: int | None) -> Raised | None:
    """Of sspopchk, or of a missing landing pad; where the instruction is not known, whether the
    word at ssp would have matched tells."""
    register = popped(word)
    if word is None:
        register = 1 if at_ssp is not None and at_ssp not in (thread.x(1), thread.x(5)) else None
        if at_ssp is None:
            return None
    if register is None:
        label = word >> 12 if word is not None and word & 0xFFF == _LPAD else _NO_PAD
        due = thread.x(7) >> 12 & 0xF_FFFF
        return Raised(SOFTWARE_CHECK, LANDING_PAD_FAULT, expected=due, found=label)
    return Raised(SOFTWARE_CHECK, SHADOW_STACK_FAULT, thread.ssp, at_ssp, thread.x(register))


def _page(address: int, thread: Thread, word: int | None) -> Raised | None:
    """An access fault has the pc in si_addr, a page fault the data address."""
    kind = _kind(word)
    if address == thread.pc:
        if kind is None:
            return Raised(INSTRUCTION_PAGE, address, address)
        data = _address(word or 0, thread)
        return Raised(STORE_ACCESS if kind == "store" else LOAD_ACCESS, data or 0, data)
    if kind is None:
        return None
    return Raised(STORE_PAGE if kind == "store" else LOAD_PAGE, address, address)


def _kind(word: int | None) -> str | None:
    """load or store; None: neither, or it is not known. sspopchk counts as a store."""
    if word is None:
        return None
    if is_shadow_access(word):
        return "store"
    key = word & 0x7F if word & 3 == 3 else (word & 3, word >> 13 & 7)
    if key == _AMO and word >> 27 == _LR:
        return "load"
    return "load" if key in _LOADS else "store" if key in _STORES else None


def _address(word: int, thread: Thread) -> int | None:
    """The address that an instruction accesses; None: of one that is not decoded here."""
    ssp, rs1 = thread.ssp, thread.x(word >> 15 & 31)
    if word in _PUSHES:
        return None if ssp is None else (ssp - 8) % 2**64
    if word in _POPS:
        return ssp
    opcode = word & 0x7F
    if word & 3 == 3:
        if opcode == _AMO:
            return rs1
        loads = opcode in _LOADS
        offset = word >> 20 if loads else word >> 25 << 5 | word >> 7 & 31
        return (rs1 + offset - (offset >> 11 << 12)) % 2**64
    quadrant, funct3 = word & 3, word >> 13
    double = funct3 in (1, 3, 5, 7)
    if quadrant == 0:  # c.ld, c.sd, c.lw, c.sw and those of f registers
        base, low = thread.x(8 + (word >> 7 & 7)), word >> 10 & 7
        high = word >> 5 & 3
        offset = low << 3 | (high << 6 if double else high >> 1 << 2 | (high & 1) << 6)
        return (base + offset) % 2**64
    if funct3 >= 4:  # c.sdsp, c.swsp
        bits = word >> 7 & 63
        offset = bits >> 3 << 3 | (bits & 7) << 6 if double else bits >> 2 << 2 | (bits & 3) << 6
        return (thread.x(2) + offset) % 2**64
    return None


def _is_swap(word: int) -> bool:
    return word & 0xF800_607F == 0x4800_202F
