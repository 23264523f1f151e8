"""Two tasks never push on one shadow stack.

## What it checks
No task pushes on a shadow stack between a push and the matching pop of another live task in the
same address space. For two tasks only the first clash is reported, at the task that does not own
the stack.

## Why it matters
Each overwrites the other's return addresses. The next return of either faults, or goes to the wrong
address and passes the check.

## When it applies
Every run with cfi. Under `intent` v1 to v5 violate it because their threads run on their parent's
stack (A5, A7); under `revision` that is expected.

## Evidence columns
cfi.kind sspush, addr, tid, mm; ssp_path for the other task's ssp; task_events exit_begin; clones
for parents suspended in vfork.

## Example
    t2 ssp_write S1.top-64      # task 1's stack, and task 1 is still on it
    t2 sspush 0x10300

## Not a violation when
a vfork child runs on its suspended parent's stack; or the other task has left the stack by writing
csr ssp (green threads, ucontext) or by exec, has popped all that it pushed there, or is dead.

## How to investigate
    shstk stacks RUN <address>
    shstk query RUN "SELECT * FROM ssp_path WHERE tid IN (1, 2) ORDER BY seq"

## Sources
seed patch, usercfi.c: "CLONE_VM is specified and thus a different stack is specified by user. We
thus need a separate shadow stack too."
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.sharing import clashes, pushes
from shstk.replay.facts import STATE, Facts, gather_stretches
from shstk.replay.rules.outcome import Finding, Outcome, Satisfied

NEEDS = ("cfi", *STATE, "mappings[shadow_stack]", "task_events.ssp", "syscalls.ssp_exit")
APPLIES = "sspush on a known shadow stack"


def _pushes(facts: Facts) -> Gather[tuple[int, list[pl.DataFrame]]]:
    return pushes(facts.run, facts.ledger)


GATHERS = (_pushes, gather_stretches)


def check(facts: Facts) -> Iterator[Outcome]:
    count, turns = facts.gathered(_pushes)
    found = clashes(turns, facts.history, facts.ledger, facts.law, facts.stretches[1])
    if count > len(found):
        yield Satisfied(count - len(found))
    for clash in found:
        yield Finding(
            seq=clash.seq,
            tid=clash.tid,
            mm=clash.stack.mm,
            addr=clash.addr,
            expected=f"task {clash.other.tid} alone pushes there, or has popped what it pushed",
            actual=f"task {clash.tid} pushes, task {clash.other.tid}'s ssp is {clash.other_ssp:#x}",
            note=f"both are on {clash.stack.name}",
            evidence=(clash.other_seq, clash.seq),
        )
