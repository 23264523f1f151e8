"""Classifies faults by rule, and judges the signal that Linux raises for a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from shstk.replay.derive.memory_access import LOADS, SHADOW, STORES, access_of
from shstk.replay.derive.regions import Region
from shstk.replay.derive.rows import Fault, Signal
from shstk.replay.facts import Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown
from shstk.schemas.causes import (
    LANDING_PAD_FAULT,
    LOAD_PAGE,
    SHADOW_STACK_FAULT,
    SOFTWARE_CHECK,
    STORE_PAGE,
)
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import (
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SI_KERNEL,
    SIGNALS,
    constants,
)

SIGSEGV, SIGBUS, SIGKILL = (SIGNALS[name] for name in ("SIGSEGV", "SIGBUS", "SIGKILL"))
_CODES = {code: name for name, code in constants("SEGV_").items()}
_TVALS = {LANDING_PAD_FAULT: "landing pad", SHADOW_STACK_FAULT: "mismatch"}


@dataclass(frozen=True)
class Due:
    """The expected cause of a fault and the expected signal."""

    cause: int
    code: int
    si_addr: int


def at_pc(fault: Fault, cause: int, code: int) -> Due:
    return Due(cause, code, fault.pc)


def case_of(facts: Facts, fault: Fault) -> str:
    """The case of a fault, by the kind of access and the memory there; empty if no rule has it."""
    if fault.cause == SOFTWARE_CHECK:
        return _TVALS.get(fault.tval, "")
    kind, address = access_of(fault.word), fault.address
    if address is None or fault.signo == SIGBUS or _misaligned(fault, kind):
        return ""  # no data access, or past the end of a file
    region = facts.regions.at(fault.mm, address, fault.seq)
    if region is None:
        return _unmapped(facts, fault, kind) if kind in SHADOW else ""
    if region.guard:
        return ""
    if kind in SHADOW and not _writable(region):
        return "ordinary page" if _present_text(region, fault) else "read-only page"
    if not region.shadow_stack:
        return "ordinary page" if kind in SHADOW else ""
    if kind in LOADS:
        return "load" if _readable(region) else ""
    if kind in STORES:
        return "store" if _writable(region) else "read-only page"
    return ""


def _misaligned(fault: Fault, kind: str) -> bool:
    width = 8 if (fault.word or 0) >> 12 & 1 else 4
    return kind == "ssamoswap" and (fault.address or 0) % width != 0


def _unmapped(facts: Facts, fault: Fault, kind: str) -> str:
    if kind == "sspush" and _based(facts, fault.mm, (fault.address or 0) + 8, fault.seq):
        return "below the base"
    if kind == "sspopchk" and _topped(facts, fault.mm, fault.address or 0, fault.seq):
        return "above the top"
    return "unmapped"


def _based(facts: Facts, mm: int | None, address: int, seq: int) -> bool:
    """Whether a live shadow stack begins at this address."""
    stack = facts.ledger.at(mm, address, seq)
    return stack is not None and stack.area.base == address


def _topped(facts: Facts, mm: int | None, address: int, seq: int) -> bool:
    """Whether a live shadow stack ends at this address."""
    stack = facts.ledger.at(mm, address - 8, seq)
    return stack is not None and stack.area.top == address


def _writable(region: Region) -> bool:
    return bool(region.prot & PROT_WRITE)


def _present_text(region: Region, fault: Fault) -> bool:
    """By the manual, an executable page is an ordinary one; one that is absent raises a page fault.
    Whether it is present is not recorded."""
    return bool(region.prot & PROT_EXEC) and fault.cause != STORE_PAGE


def _readable(region: Region) -> bool:
    """VM_READ or VM_WRITE: either makes a shadow stack readable in the page tables."""
    return bool(region.prot & (PROT_READ | PROT_WRITE))


def of(facts: Facts, *cases: str) -> Iterator[Fault]:
    """The faults of these cases."""
    return (f for f in facts.faults if case_of(facts, f) in cases)


def judge(facts: Facts, fault: Fault, due: Due, why: str) -> Outcome:
    """Check that a fault has this cause, raised this signal, and that the signal was delivered."""
    if fault.cause != due.cause:
        found = wrong(fault, f"cause {due.cause}", f"cause {fault.cause}", why)
        return replace(found, deviation=while_off(facts, fault))
    raised = (fault.signo, fault.code, fault.si_addr)
    if None not in raised and raised != (SIGSEGV, due.code, due.si_addr):
        return wrong(fault, _shown(SIGSEGV, due.code, due.si_addr), _shown(*raised), why)
    signal = _at_once(facts, fault)
    if signal is None or (signal.signo, signal.code) == (SIGSEGV, SI_KERNEL):
        return OK  # a debugger intercepts it, or its frame could not be stored
    if signal.signo == SIGKILL:
        return OK  # it takes precedence over every other signal
    got = (signal.signo, signal.code, signal.si_addr)
    if None in got[:2] or (None in got and signal.code in _CODES):
        return Unknown("the signal of the fault is not recorded")
    if got != (SIGSEGV, due.code, due.si_addr):
        return wrong(fault, _shown(SIGSEGV, due.code, due.si_addr), _shown(*got), why, signal.seq)
    return OK


def while_off(facts: Facts, fault: Fault) -> str:
    """The deviation that explains an ordinary access's page fault in a task whose shadow stack is
    off."""
    page = fault.cause in (LOAD_PAGE, STORE_PAGE) and access_of(fault.word) not in SHADOW
    return "status off" if page and not facts.history.state(fault.tid, fault.seq).enabled else ""


def _at_once(facts: Facts, fault: Fault) -> Signal | None:
    """The signal that the task received before it ran another instruction."""
    end = (fault.seq // STEPS + 1) * STEPS - 1
    later = facts.signals.of(fault.tid, fault.seq, end)
    return later[0] if later else None


def wrong(fault: Fault, expected: str, actual: str, why: str, seq: int | None = None) -> Finding:
    """A finding at the fault, or at the signal that it raised."""
    kind = access_of(fault.word) or "the instruction"
    return Finding(
        seq=fault.seq if seq is None else seq,
        tid=fault.tid,
        mm=fault.mm,
        addr=fault.pc if fault.address is None else fault.address,
        expected=expected,
        actual=actual,
        note=f"{kind} at {fault.pc:#x} in task {fault.tid}: {why}",
        evidence=(fault.seq,) if seq is None else (fault.seq, seq),
    )


def _shown(signo: int | None, code: int | None, si_addr: int | None) -> str:
    name = "SIGSEGV" if signo == SIGSEGV else f"signal {signo}"
    return f"{name}, {_CODES.get(code or 0, f'code {code}')} at {words.address(si_addr)}"
