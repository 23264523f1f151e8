"""An indirect jump to no landing pad raises SIGSEGV with SEGV_CPERR at its target.

## What it checks
A software check (cause 18) with tval 2 raises SIGSEGV with SEGV_CPERR (10) and si_addr = the pc,
which is the jump's target. The signal that is delivered has the same values.

## Why it matters
The target shows where the hijacked pointer led. The address of the jump itself is not saved.

## When it applies
Every revision; every jump that met no lpad, a misaligned one or one with another label. Whether the
instruction itself was right to trap is for the Z rules.

## Evidence columns
faults.cause, tval, pc, signo, code, si_addr; signals.signo, code, si_addr.

## Example
    t1 fault 18 tval=2 pc=0x10400 signo=SIGSEGV code=SEGV_CPERR si_addr=0x10200

## Not a violation when
the signal frame cannot be stored: the task then dies of a SIGSEGV with SI_KERNEL.

## How to investigate
    shstk query RUN "SELECT seq, tid, pc, expected, found FROM faults WHERE cause = 18 AND tval = 2"

## Sources
The series' traps.c, software check: SIGSEGV with SEGV_CPERR at the pc; privileged manual, Zicfilp:
xtval 2; seen on 7.2.13 (faults: lpad_missing, lpad_label_mismatch, lpad_misaligned).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import memory_faults
from shstk.replay.rules.memory_faults import at_pc, judge
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import SOFTWARE_CHECK
from shstk.schemas.uapi import SEGV_CPERR

NEEDS = ("faults",)
ALSO = ("signals",)
APPLIES = "indirect jump that met no landing pad"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "landing pad"):
        yield judge(facts, fault, at_pc(fault, SOFTWARE_CHECK, SEGV_CPERR), "no landing pad")
