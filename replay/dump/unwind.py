"""The call stack of a thread by its ordinary stack: unwind tables, frame pointers, or a search.

A compiler's .eh_frame says where each function saved its return address and the registers of its
caller. Where there is none, s0 may be a frame pointer. Where that ends too, the stack is searched
for the words of the shadow stack, in their order: other words that look like return addresses may
be leftovers.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shstk.replay.derive.sigframe import REGS_SIZE, SC_REGS, UCONTEXT
from shstk.replay.dump.memory import Memory

_RA, _SP, _T0, _FP = 1, 2, 5, 8
_RETURNS: Final = {0x8082: _RA, 0x0000_8067: _RA, 0x8282: _T0, 0x0002_8067: _T0}
_POPS: Final = {0xCDC0C073: _RA, 0xCDC2C073: _T0, 0x6281: _T0}
SIGRETURN: Final = (0x08B0_0893).to_bytes(4, "little") + (0x73).to_bytes(4, "little")
_PUSHES: Final = (0xCE104073, 0xCE504073, 0x6081)
_PROLOGUE: Final = 4096  # bytes of a function that are looked at
_MOST: Final = 100_000  # frames
_FRAME: Final = 1 << 20  # bytes: no function's frame is taken to be larger


@dataclass(frozen=True, slots=True)
class Entry:
    """A return address. slot: where it stands in memory; None: in the register. how: by what it was
    found: register, tables, frame pointer or search; signal: it is where a signal interrupted.
    pushed: whether the function that returns there has an sspush before the place where it is;
    None: its code is not known, or where it begins."""

    value: int
    slot: int | None
    how: str
    pushed: bool | None = None


class Walk:
    """One walk up a thread's ordinary stack. shadow: the words of its shadow stack from ssp up."""

    def __init__(
        self,
        memory: Memory,
        tables: Tables,
        registers: Sequence[int],
        shadow: Sequence[int],
        instruction: str | None,
    ) -> None:
        """registers: pc, x1 to x31. instruction: that of a fault: sspopchk, or lpad where a jump
        has just led to."""
        self._instruction = instruction
        self._memory = memory
        self._tables = tables
        self._shadow = shadow
        self._met = 0  # words of the shadow stack that were met, or went by
        self._pc = registers[0]
        self._x: dict[int, int] = dict(enumerate(registers))
        self._pushers: dict[int, bool | None] = {}

    def entries(self) -> Iterator[Entry]:
        """Innermost first."""
        exact = True  # pc is an instruction that ran, and not one to return to
        for _ in range(_MOST):
            entry = self._first() if exact else None
            entry = entry or self._by_tables(exact) or self._by_frame_pointer()
            if entry is None:
                break
            if not self._memory.is_code(entry.value) and not entry.value:
                return
            yield entry
            self._meet(entry)
            exact = False
            if signal := self._by_signal_frame():
                yield signal
                exact = True
        yield from self._by_search()

    def _meet(self, entry: Entry) -> None:
        """Go on in the caller; if the return address is none, where the shadow stack says."""
        if entry.value in self._shadow[self._met : self._met + _NEAR]:
            self._met = self._shadow.index(entry.value, self._met) + 1
            self._pc = entry.value
        elif self._memory.is_code(entry.value) or self._met >= len(self._shadow):
            self._pc = entry.value
        else:
            self._pc = self._shadow[self._met]
            self._met += 1

    def _first(self) -> Entry | None:
        """Where the register is known to have it: at the end of a function, which has popped its
        frame, at sspopchk and ret; at the beginning of one, or of a signal handler; and where a
        call led to no code."""
        ra, code = self._x[_RA], self._memory.read(self._pc, 8)
        entered = self._instruction == "lpad" or not self._memory.is_code(self._pc)
        if (
            (self._memory.read(ra, 8) == SIGRETURN and not self._tables.at(self._pc))
            or (entered and not self._tables.at(self._pc) and self._memory.is_return(ra))
            or (self._instruction == "sspopchk" and not code)
        ):
            return Entry(ra, None, "register")
        register = _POPS.get(_word(code))
        after = code[4:] if register and code[0] & 3 == 3 else code[2:] if register else code
        if register is None or _RETURNS.get(_word(after)) != register:
            return None
        return Entry(self._x[register], None, "register")

    def _by_tables(self, exact: bool) -> Entry | None:
        """CFA is sp in the caller; the rules say where the registers are."""
        rules = self._tables.at(self._pc if exact else self._pc - 1)
        if rules is None:
            return None
        saved, link = rules.saved, rules.link
        cfa = self._x.get(rules.base, 0) + rules.offset
        if not self._rises(cfa):
            cfa = self._x[_SP] + rules.fixed
            if rules.base != _FP or not self._overwritten(cfa, rules):
                return None
        values = {n: self._memory.word(cfa + at) for n, at in saved.items()}
        if link in saved:
            pushed = self._pushes(rules.begin, self._pc)
            entry = Entry(values[link] or 0, cfa + saved[link], "tables", pushed)
        elif exact:
            entry = Entry(self._x[link], None, "register")
        else:
            return None  # not saved, and overwritten by the call: the outermost function
        if link in saved and values[link] is None:
            return None  # the dump lacks it
        self._x |= {n: value for n, value in values.items() if value is not None}
        self._x[_SP] = cfa
        return entry

    def _overwritten(self, cfa: int, rules: Rules) -> bool:
        """Whether a frame of this size fits: the frame pointer was lost with the frame below, so
        the return address is right, or the caller's frame pointer is overwritten too."""
        if rules.link not in rules.saved or _FP not in rules.saved:
            return False
        value = self._memory.word(cfa + rules.saved[rules.link])
        caller = self._memory.word(cfa + rules.saved[_FP])
        if value is None or caller is None:
            return False
        near = self._shadow[self._met : self._met + _NEAR]
        return value in near or not cfa < caller < cfa + _FRAME

    def _pushes(self, begin: int, end: int) -> bool | None:
        """Whether a range of code has an sspush."""
        if begin not in self._pushers:
            code = self._memory.read(begin, min(end - begin, _PROLOGUE))
            found = any(word in _PUSHES for word in _instructions(code))
            self._pushers[begin] = found if code else None
        return self._pushers[begin]

    def _by_frame_pointer(self) -> Entry | None:
        """s0 is CFA; the return address and the caller's s0 are below it."""
        top = self._x[_FP]
        if top % 16 or top <= self._x[_SP] or not self._rises(top):
            return None
        value, caller = self._memory.word(top - 8), self._memory.word(top - 16)
        near = self._shadow[self._met : self._met + _NEAR]
        if value is None or caller is None:
            return None
        if value not in near and not self._memory.is_return(value):
            return None
        self._x |= {_SP: top, _FP: caller}
        return Entry(value, top - 8, "frame pointer")

    def _by_signal_frame(self) -> Entry | None:
        """A handler returns to rt_sigreturn; the frame above has the registers of what it
        interrupted."""
        if self._memory.read(self._pc, 8) != SIGRETURN:
            return None
        at = self._x[_SP] + UCONTEXT + SC_REGS
        data = self._memory.read(at, REGS_SIZE)
        if len(data) < REGS_SIZE:
            return None
        words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, REGS_SIZE, 8)]
        self._x = dict(enumerate(words))
        self._pc = words[0]
        return Entry(words[0], at, "signal")

    def _by_search(self) -> Iterator[Entry]:
        at = -(-self._x[_SP] // 8) * 8
        region = self._memory.region(at)
        for value in self._shadow[self._met :] if region else ():
            found = self._find(value, at, region.end if region else at)
            if found is not None:
                yield Entry(value, found, "search")
                at = found + 8

    def _find(self, value: int, low: int, high: int) -> int | None:
        wanted = value.to_bytes(8, "little")
        data = self._memory.read(low, min(high - low, _FRAME))
        at = data.find(wanted)
        while at % 8 and at >= 0:
            at = data.find(wanted, at + 1)
        return low + at if at >= 0 else None

    def _rises(self, top: int) -> bool:
        """Whether an address can be sp in the caller."""
        return self._x[_SP] <= top < self._x[_SP] + _FRAME


_NEAR: Final = 64  # words of the shadow stack in which a return address is looked for


@dataclass(frozen=True, slots=True)
class Rules:
    """CFA is the register `base` + offset; saved: of each register its place from CFA; link: the
    register that has the return address; begin: of the function; fixed: CFA from sp, as long as
    nothing was allocated on the stack meanwhile."""

    base: int
    offset: int
    saved: dict[int, int]
    link: int
    begin: int
    fixed: int


class Tables:
    """The .eh_frame of the files that are mapped as code."""

    def __init__(self, memory: Memory, biases: dict[int, int]) -> None:
        """biases: of each input: address minus ELF address."""
        self._memory = memory
        self._biases = biases
        self._entries: dict[int, tuple[list[int], list[Any]]] = {}

    def at(self, address: int) -> Rules | None:
        """The rules at an instruction; None: there are none, or none that is understood."""
        region = self._memory.region(address)
        if region is None or region.input is None or region.input not in self._biases:
            return None
        own = address - self._biases[region.input]
        starts, entries = self._of(region.input)
        at = bisect_right(starts, own) - 1
        if at < 0:
            return None
        return _rules(entries[at], own, self._biases[region.input])

    def _of(self, input: int) -> tuple[list[int], list[Any]]:
        if input not in self._entries:
            found = sorted(_entries(self._memory.file(input)), key=_begin)
            self._entries[input] = [_begin(e) for e in found], found
        return self._entries[input]


def _entries(data: bytes) -> list[Any]:
    """The FDEs of a file. pyelftools may raise an exception of any type on a damaged one."""
    from elftools.dwarf.callframe import FDE
    from elftools.elf.elffile import ELFFile

    try:
        dwarf = ELFFile(io.BytesIO(data)).get_dwarf_info()
        tables = dwarf.EH_CFI_entries() if dwarf.has_EH_CFI() else dwarf.CFI_entries()
        return [entry for entry in tables if isinstance(entry, FDE)]
    except Exception:
        return []


def _rules(entry: Any, address: int, bias: int) -> Rules | None:
    try:
        if address >= _begin(entry) + entry.header["address_range"]:
            return None
        table = entry.get_decoded().table or entry.cie.get_decoded().table
        lines = [row for row in table if row["pc"] <= address]
        line = lines[-1]
        cfa, link = line["cfa"], entry.cie["return_address_register"]
        if cfa.reg is None or cfa.expr is not None:
            return None
        saved = {
            number: rule.arg
            for number, rule in line.items()
            if isinstance(number, int) and rule.type == "OFFSET"
        }
        by_sp = [row["cfa"].offset for row in lines if row["cfa"].reg == _SP]
        others = [r.type for n, r in line.items() if isinstance(n, int) and n == link]
    except Exception:
        return None
    if others and others[0] not in ("OFFSET", "SAME_VALUE"):
        return None
    return Rules(cfa.reg, cfa.offset, saved, link, _begin(entry) + bias, max(by_sp, default=0))


def _begin(entry: Any) -> int:
    return int(entry.header["initial_location"])


def _instructions(code: bytes) -> Iterator[int]:
    while code:
        word = _word(code)
        yield word
        code = code[4 if word & 3 == 3 else 2 :]


def _word(code: bytes) -> int:
    """The instruction at the beginning of some bytes."""
    size = 4 if code[:1] and code[0] & 3 == 3 else 2
    return int.from_bytes(code[:size], "little")
