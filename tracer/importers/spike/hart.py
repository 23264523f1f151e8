"""What the log tells of one hart, and the rows of each instruction that it executes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from shstk.schemas.causes import (
    ILLEGAL_INSTRUCTION,
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
from shstk.tracer.importers.rows import Row
from shstk.tracer.importers.spike.memory import Space, Words
from shstk.tracer.importers.spike.text import Commit, Trap
from shstk.tracer.importers.spike.words import (
    CSR_SSP,
    RETURNS,
    checked_register,
    fences,
    jump,
    kind_of,
)

_MACHINE, _SUPERVISOR, _USER = 3, 1, 0
_SENVCFG, _MENVCFG, _HENVCFG, _MSECCFG = 0x10A, 0x30A, 0x60A, 0x747
_SATP, _VSATP, _HGATP = 0x180, 0x280, 0x680
_LPE, _SSE, _MLPE = 1 << 2, 1 << 3, 1 << 10
RESET: Final = 0x1000  # Spike's reset vector
_NO_PAD: Final = 0xFFFF_FFFF
_U32, _U64 = 2**32 - 1, 2**64 - 1
_DATA: Final = (
    LOAD_MISALIGNED,
    LOAD_ACCESS,
    STORE_MISALIGNED,
    STORE_ACCESS,
    LOAD_PAGE,
    STORE_PAGE,
)


@dataclass
class Hart:
    """registers, csrs: as far as they are known. ssp: None until something tells it.

    jumped: where a jump went that must land on a pad, with the mode; None: none did.
    """

    words: Words
    registers: dict[int, int] = field(default_factory=dict)
    csrs: dict[int, int] = field(default_factory=dict)
    ssp: int | None = None
    jumped: tuple[int, int] | None = None
    mode: int | None = None  # None: it just changed to one that is not known yet
    fetched: tuple[int, int] | None = None  # pc and word, with -l
    _translation: Space = ()

    def reset(self) -> None:
        """What the log does not tell is 0."""
        self.registers = dict.fromkeys(range(32), 0)
        self.csrs = dict.fromkeys((_SENVCFG, _MENVCFG, _HENVCFG, _MSECCFG), 0)
        self.ssp = 0

    def space(self, mode: int) -> Space:
        """What translates the addresses of a mode; () if nothing does."""
        return () if mode == _MACHINE else self._translation

    def _enabled(self, bit: int, mode: int) -> bool | None:
        """Whether SSE or LPE is on in a mode; None: not known."""
        if mode == _MACHINE:
            mseccfg = self.csrs.get(_MSECCFG)
            return False if bit == _SSE else None if mseccfg is None else bool(mseccfg & _MLPE)
        if self.csrs.get(_HENVCFG) or self.csrs.get(_HGATP):
            return None  # the mode may be a guest's
        ruling = [_MENVCFG] if mode == _SUPERVISOR or bit == _SSE else []
        ruling += [_SENVCFG] if mode == _USER else []
        told = [self.csrs.get(csr) for csr in ruling]
        if any(value is not None and not value & bit for value in told):
            return False
        return None if None in told else True

    def retired(self, e: Commit) -> tuple[Row | None, Row | None]:
        """The rows of an instruction in cfi and insn, without their seq; None: it has none."""
        before, kind = self.ssp, kind_of(e.word)
        cfi = self._cfi(e, kind, before)
        if CSR_SSP in e.csrs:
            self.ssp = e.csrs[CSR_SSP]
        elif before is None and kind in ("ssrdp", "ssp_read"):
            self.ssp = next((value for value in e.registers.values() if value), None)
        self._follow(e, kind in ("sspush", "ssamoswap"))
        return cfi, self._insn(e)

    def _follow(self, e: Commit, shadow: bool) -> None:
        space = self.space(e.mode) if e.stores else ()
        for address, value, size in e.stores:
            if shadow:
                self.words.pushed(space, address, value, size)
            else:
                self.words.stored(space, e.mode, address, value, size)
        self.jumped = self._jumps(e)
        self.mode = None if e.word in RETURNS else e.mode
        if fences(e.word):
            self.words.forget()
        for number, value in e.registers.items():
            if number < 32:
                self.registers[number] = value
        if e.csrs:
            self.csrs.update(e.csrs)
            told = tuple(self.csrs.get(csr, 0) for csr in (_SATP, _VSATP, _HGATP))
            self._translation = told if any(told) else ()

    def _jumps(self, e: Commit) -> tuple[int, int] | None:
        found = jump(e.word)
        if found is None or not self._enabled(_LPE, e.mode):
            return None
        register, offset = found
        if register not in self.registers and register:
            return None
        return (self.registers.get(register, 0) + offset) & _U64 & ~1, e.mode

    def _insn(self, e: Commit) -> Row | None:
        if self.ssp is None:
            return None
        rd = next(iter(e.registers.items()), (None, None))
        address, value, size = e.stores[0] if e.stores else (None, None, None)
        if address is None and e.loads:
            address = e.loads[0]
        return {
            "pc": e.pc,
            "word": e.word,
            "rd": rd[0],
            "rd_value": rd[1],
            "mem_addr": address,
            "mem_value": value,
            "mem_size": size,
            "ssp": self.ssp,
        }

    def _cfi(self, e: Commit, kind: str | None, before: int | None) -> Row | None:
        if before is None:
            return None
        if self.jumped == (e.pc, e.mode) and kind != "lpad":
            expected = self.registers.get(7)
            return _row(e.pc, "lpad", before, value=_NO_PAD, operand=_label(expected))
        if kind is None:
            return None
        told = self._effect(kind, e)
        if told is None:
            return None
        return _row(e.pc, kind, before, after=e.csrs.get(CSR_SSP, before), **told)

    def _effect(self, kind: str, e: Commit) -> dict[str, Any] | None:
        """addr, value and operand of an instruction; None: it had no effect, for it was off."""
        written = next((value for number, value in e.registers.items() if number < 32), None)
        if kind == "lpad":
            if not self._enabled(_LPE, e.mode):
                return None
            return {"value": e.word >> 12, "operand": _label(self.registers.get(7))}
        if kind == "sspush" and e.stores:
            return {"addr": e.stores[0][0], "value": e.stores[0][1]}
        if kind == "sspopchk" and e.loads:
            return {
                "addr": e.loads[0],
                "value": self.words.at(self.space(e.mode), e.loads[0]),
                "operand": self.registers.get(checked_register(e.word)),
            }
        if kind == "ssamoswap" and e.stores:
            address, value, size = e.stores[0]
            if written is not None and size == 4:
                written &= _U32
            return {"addr": address, "value": value, "operand": written}
        if kind == "ssrdp" and written is not None:
            on = self._enabled(_SSE, e.mode)
            return {"value": written} if on or (on is None and written) else None
        if kind == "ssp_read" and written is not None:
            return {"value": written}
        if kind == "ssp_write" and CSR_SSP in e.csrs:
            return {"value": e.csrs[CSR_SSP]}
        return None

    def trapped(self, e: Trap) -> tuple[Row | None, Row]:
        """The rows of an instruction that trapped, in cfi and in faults, without their seq."""
        word = self.fetched[1] if self.fetched and self.fetched[0] == e.pc else None
        on = self.mode is not None and self._enabled(_SSE, self.mode)
        self.jumped = self.mode = None
        assert e.cause is not None
        fault: Row = {
            "pc": e.pc,
            "word": word,
            "cause": e.cause,
            "tval": e.tval,
            "address": e.tval if e.cause in _DATA else None,
        }
        cfi = self._refused(e, word, bool(on))
        if cfi and e.cause == SOFTWARE_CHECK:
            fault["address"] = cfi["addr"]
            both = cfi["value"], cfi["operand"]
            fault["expected"], fault["found"] = both[:: 1 if cfi["kind"] == "sspopchk" else -1]
        return cfi, fault

    def _refused(self, e: Trap, word: int | None, on: bool) -> Row | None:
        kind = kind_of(word) if word is not None else None
        if self.ssp is None:
            return None
        if e.cause == SOFTWARE_CHECK and e.tval == LANDING_PAD_FAULT:
            if word is None:
                return None
            label = word >> 12 if kind == "lpad" else _NO_PAD
            expected = _label(self.registers.get(7))
            return _row(e.pc, "lpad", self.ssp, value=label, operand=expected, fault=e.cause)
        if kind == "sspopchk" and e.cause == SOFTWARE_CHECK and e.tval == SHADOW_STACK_FAULT:
            assert word is not None
            return _row(
                e.pc,
                kind,
                self.ssp,
                addr=self.ssp,  # the log has none; nothing but ssp names it
                value=self.words.at(self.space(_USER), self.ssp),
                operand=self.registers.get(checked_register(word)),
                fault=e.cause,
            )
        if kind in ("sspush", "sspopchk", "ssamoswap") and e.cause in _DATA:
            return _row(e.pc, kind, self.ssp, addr=e.tval, fault=e.cause)
        if on and kind in ("ssrdp", "ssp_read", "ssp_write") and e.cause == ILLEGAL_INSTRUCTION:
            return _row(e.pc, kind, self.ssp, fault=e.cause)
        return None


def _label(x7: int | None) -> int | None:
    return None if x7 is None else x7 >> 12 & 0xF_FFFF


def _row(pc: int, kind: str, before: int, after: int | None = None, **columns: Any) -> Row:
    return {
        "pc": pc,
        "kind": kind,
        "addr": None,
        "value": None,
        "operand": None,
        "ssp_before": before,
        "ssp_after": before if after is None else after,
        "fault": None,
        **columns,
    }
