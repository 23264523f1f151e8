"""A pop that finds another value than its register's raises SIGSEGV with SEGV_CPERR at the pc.

## What it checks
A software check (cause 18) with tval 3 results from two values that differ and raises SIGSEGV with
SEGV_CPERR (10) and si_addr = the pc of the sspopchk. The signal that is delivered has the same
values.

## Why it matters
By SEGV_CPERR a program, a debugger or a crash report distinguishes a corrupted return address from
any other bad access.

## When it applies
Every revision; every sspopchk that found another value. I1 judges the value on the shadow stack, Z2
the instruction itself.

## Evidence columns
faults.cause, tval, expected, found, pc, signo, code, si_addr; signals.signo, code, si_addr.

## Example
    t1 fault 18 tval=3 expected=0x10234 found=0x10300 signo=SIGSEGV code=SEGV_ACCERR

## Not a violation when
the signal frame cannot be stored: the task then dies of a SIGSEGV with SI_KERNEL.

## How to investigate
    shstk query RUN "SELECT * FROM faults WHERE cause = 18"

## Sources
The series' traps.c, software check: SIGSEGV with SEGV_CPERR at the pc; privileged manual: xtval 3;
seen on 7.2.13 (faults: sspopchk_mismatch).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import memory_faults
from shstk.replay.rules.memory_faults import at_pc, judge, wrong
from shstk.replay.rules.outcome import Outcome
from shstk.schemas.causes import SOFTWARE_CHECK
from shstk.schemas.uapi import SEGV_CPERR

NEEDS = ("faults",)
ALSO = ("faults.expected", "faults.found", "signals")
APPLIES = "sspopchk that found another value"


def check(facts: Facts) -> Iterator[Outcome]:
    for fault in memory_faults.of(facts, "mismatch"):
        if fault.expected is not None and fault.expected == fault.found:
            both = f"{fault.expected:#x} and {fault.found:#x}"
            yield wrong(fault, "values that differ", both, "it compares them")
        else:
            yield judge(facts, fault, at_pc(fault, SOFTWARE_CHECK, SEGV_CPERR), "a mismatch")
