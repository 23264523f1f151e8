"""Every sspopchk loads the word that was last written at its address.

## What it checks
The word that sspopchk loads is the one that the last sspush, ssamoswap or kernel write stored
there. It is 0 if there was none since the area was mapped. A fork child reads what its parent had
there at the fork.

## Why it matters
Only pushes change a shadow stack. A word that changed by itself is a bug in the machine, in the
kernel's paging, or in this recorder.

## When it applies
Every run with cfi, whatever the kernel. A pop that traps because the register differs (cause 18)
has loaded its word and is judged; other faulting pops have not.

## Evidence columns
cfi.kind, addr, value, fault; kernel_memory.addr, bytes; mappings (map, unmap, remap and discard
begin new contents); mms.from_mm.

## Example
    t1 sspush 0x10234
    t1 sspopchk 0x10999

## Not a violation when
another task, a signal token or ptrace wrote the word in between: that is then the last write. A
word without a recorded write is skipped in an area that was mapped before the run began, and if ssp
was already wrong (ST2, A7, P6, I2).

## How to investigate
    shstk query RUN "SELECT * FROM cfi WHERE addr = <address> ORDER BY seq"

## Sources
Documentation/arch/riscv/zicfiss.rst: "The sspopchk x1/x5 instruction pops (loads) from shadow stack
and compares with x1/x5 and if not equal, the CPU raises a software check exception with *tval = 3".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts, gather_loads, gather_motions
from shstk.replay.rules.last_write import wrong_loads
from shstk.replay.rules.outcome import Outcome, Satisfied

NEEDS = ("cfi", "mappings", "kernel_memory", "cfi.value")
ALSO = ("mms",)
APPLIES = "sspopchk that loaded its word"
GATHERS = (
    gather_loads,
    gather_motions,
)


def check(facts: Facts) -> Iterator[Outcome]:
    if right := facts.loads.right.get("sspopchk"):
        yield Satisfied(right)
    yield from wrong_loads(facts, "sspopchk")
