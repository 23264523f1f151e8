"""The faults of a run, and their kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.regions import Regions
from shstk.schemas.causes import (
    ILLEGAL_INSTRUCTION,
    INSTRUCTION_ACCESS,
    INSTRUCTION_PAGE,
    LANDING_PAD_FAULT,
    SHADOW_STACK_FAULT,
    SOFTWARE_CHECK,
    STORE_ACCESS,
    STORE_PAGE,
)
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import SI_KERNEL, SIGNALS

if TYPE_CHECKING:
    from shstk.replay.run import Run

_FETCHES: Final = (INSTRUCTION_ACCESS, INSTRUCTION_PAGE)


@dataclass(frozen=True)
class Fault:
    """An exception (a row of faults), or an error that the kernel detected (a row of signals): a
    signal that could not be delivered, a sigreturn or an exec that failed.

    fatal: its signal ended the task. caught: a handler was entered for it. Neither: the handler
    could not be entered, or a tracer took the signal.
    """

    seq: int
    tid: int
    mm: int | None
    signo: int | None
    code: int | None
    fatal: bool
    caught: bool
    pc: int | None = None
    word: int | None = None
    cause: int | None = None
    tval: int = 0
    address: int | None = None
    expected: int | None = None
    found: int | None = None
    sigreturn: dict[str, int] | None = None  # the signals row, if a sigreturn failed
    exec_error: int | None = None  # the errno, if an exec failed past its point of no return
    sent: bool = False  # in a dump: by a task or the kernel, for no exception that is known
    raised_by: Fault | None = None  # the exception whose signal could not be delivered

    @property
    def icount(self) -> int:
        return self.seq // STEPS

    @property
    def instruction(self) -> str | None:
        """sspush, sspopchk, ssamoswap or `csr ssp`, decoded from the word. None for a missing
        landing pad: the word there was not executed."""
        if self.cause == SOFTWARE_CHECK and self.tval == LANDING_PAD_FAULT:
            return None
        return next((n for n, is_it in _ENCODINGS.items() if is_it(self.word or 0)), None)


_ENCODINGS: Final[dict[str, Callable[[int], bool]]] = {
    "sspush": lambda w: w in (0xCE104073, 0xCE504073, 0x6081),
    "sspopchk": lambda w: w in (0xCDC0C073, 0xCDC2C073, 0x6281),
    "ssamoswap": lambda w: w & 0xF800607F == 0x4800202F,
    "csr ssp": lambda w: w & 0x7F == 0x73 and w >> 12 & 3 != 0 and w >> 20 == 0x011,
}


def faults(run: Run) -> list[Fault]:
    """Every fault, in seq order. A signal that a task sent is not a fault."""
    signals = list(run.table("signals").iter_rows(named=True))
    deaths = {(s["tid"], s["seq"] // STEPS): s for s in signals if s["kind"] == "fatal"}
    entered = {
        (s["tid"], s["seq"] // STEPS)
        for s in signals
        if s["kind"] == "delivery" and s["handler"] is not None
    }
    returns = {(s["tid"], s["seq"] // STEPS): s for s in signals if s["kind"] == "sigreturn"}
    execs = {
        (e["tid"], e["seq"] // STEPS): -e["status"]
        for e in run.table("task_events").iter_rows(named=True)
        if e["kind"] == "exec_done" and e["status"]
    }
    found = []
    for row in run.table("faults").iter_rows(named=True):
        at = (row["tid"], row["seq"] // STEPS)
        names = ("seq", "tid", "mm", "signo", "code", "pc", "word", "cause", "tval", "address")
        known = {name: row[name] for name in (*names, "expected", "found")}
        fatal = at in deaths and _same(row, deaths[at])
        found.append(Fault(**known, fatal=fatal, caught=at in entered and not fatal))
    dumped = bool(run.scan("dump_threads").select(pl.len()).collect().item())
    exceptions = {(f.tid, f.icount): f for f in found}
    for at, row in deaths.items():
        exception = exceptions.get(at)
        forced = row["code"] == SI_KERNEL and row["signo"] == SIGNALS["SIGSEGV"]
        if forced and not (exception and exception.fatal):
            known = {name: row[name] for name in ("seq", "tid", "mm", "signo", "code")}
            why: dict[str, Any] = {"exec_error": execs.get(at)}
            if at in returns and not _restored(returns[at]):
                why["sigreturn"] = returns[at]
            if exception and not exception.caught:
                why["raised_by"] = exception
            found.append(Fault(**known, fatal=True, caught=False, **why))
        elif dumped and not exception:
            known = {name: row[name] for name in ("seq", "tid", "mm", "signo", "code")}
            found.append(Fault(**known, fatal=True, caught=False, sent=True))
    return sorted(found, key=lambda f: f.seq)


def _same(fault: dict[str, Any], death: dict[str, Any]) -> bool:
    """Whether a task died of the signal of its exception, and not of one that the kernel forced
    because the handler could not be entered, or that another task sent."""
    codes = (fault["code"], death["code"])
    return fault["signo"] in (None, death["signo"]) and (None in codes or codes[0] == codes[1])


def _restored(row: dict[str, Any]) -> bool:
    """Whether a sigreturn found its token, and ssp is where it leads."""
    token, word = row["token_addr"], row["token_value"]
    return token is not None and word == token + 8 and row["ssp_after"] == word


def kind(fault: Fault, regions: Regions) -> str:
    """One of KINDS."""
    return next(name for name, (_, is_it) in KINDS.items() if is_it(fault, regions))


def _on_shadow_stack(fault: Fault, regions: Regions) -> bool:
    region = regions.at(fault.mm, fault.address or 0, fault.seq)
    return region is not None and region.shadow_stack


def _ours(fault: Fault) -> bool:
    """Whether a shadow-stack instruction made the access."""
    return fault.instruction in ("sspush", "sspopchk", "ssamoswap")


# name → (what happened, test); the first test that holds decides
KINDS: Final[dict[str, tuple[str, Callable[[Fault, Regions], bool]]]] = {
    "sent": (
        "no exception is known that raised the signal",
        lambda f, r: f.sent,
    ),
    "mismatch": (
        "sspopchk found different return addresses in the register and on the shadow stack",
        lambda f, r: f.cause == SOFTWARE_CHECK and f.tval == SHADOW_STACK_FAULT,
    ),
    "landing pad": (
        "an indirect jump did not land on a landing pad with its label",
        lambda f, r: f.cause == SOFTWARE_CHECK and f.tval == LANDING_PAD_FAULT,
    ),
    "bad sigreturn": (
        "rt_sigreturn could not restore the signal frame",
        lambda f, r: f.sigreturn is not None,
    ),
    "exec": (
        "execve failed when the old program was already gone",
        lambda f, r: f.exec_error is not None,
    ),
    "no delivery": (
        "a signal could not be delivered: the kernel found no room to enter its handler",
        lambda f, r: f.cause is None,
    ),
    "off": (
        "csr ssp or ssamoswap was used while the shadow stack is off",
        lambda f, r: f.cause == ILLEGAL_INSTRUCTION and f.instruction in ("csr ssp", "ssamoswap"),
    ),
    "no word": (
        "a shadow-stack instruction accessed a word that is not mapped, or not writable",
        lambda f, r: f.cause == STORE_PAGE and _ours(f),
    ),
    "ordinary page": (
        "a shadow-stack instruction accessed a word outside any shadow stack",
        lambda f, r: f.cause == STORE_ACCESS and _ours(f) and not _on_shadow_stack(f, r),
    ),
    "misaligned": (
        "a shadow-stack instruction used a misaligned address",
        lambda f, r: f.cause == STORE_ACCESS and _ours(f),
    ),
    "store": (
        "an ordinary store accessed a word of a shadow stack",
        lambda f, r: f.cause in (STORE_ACCESS, STORE_PAGE) and _on_shadow_stack(f, r),
    ),
    "fetch": (
        "execution reached memory that is not executable",
        lambda f, r: f.cause in _FETCHES,
    ),
    "illegal": (
        "this CPU does not implement the instruction",
        lambda f, r: f.cause == ILLEGAL_INSTRUCTION,
    ),
    "other": ("an ordinary access failed", lambda f, r: True),
}
