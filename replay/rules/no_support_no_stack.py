"""Without support for shadow stacks, a clone maps none.

## What it checks
On a machine without Zicfiss, or (from v13) booted with riscv_nousercfi, no clone maps a shadow
stack, and the child starts with its parent's ssp.

## Why it matters
The first check in the hook keeps the feature from affecting every other machine.

## When it applies
Every revision; every clone attempt of a run whose manifest has a cpu without zicfiss, or nousercfi.

## Evidence columns
manifest.cpu, manifest.nousercfi; mappings.op, shadow_stack within the clone; task_events.ssp of
first_user; syscalls.ssp_entry of the clone.

## Example
    cpu rv64gc
    clone(CLONE_VM|CLONE_THREAD|CLONE_SIGHAND) = 2 { map 4M@0x7fff_e000_0000 ss; t2 created }

## Not a violation when
the CPU has Zicfiss and the kernel uses it: A2 to A5 cover that.

## How to investigate
    shstk info RUN
    shstk query RUN "SELECT * FROM mappings WHERE shadow_stack"

## Sources
seed patch, usercfi.c, shstk_alloc_thread_stack: "If shadow stack is not supported, return 0".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import inheritance
from shstk.replay.rules.outcome import Outcome

NEEDS = (*STATE, "mappings[shadow_stack]")
APPLIES = "clone without CPU support for shadow stacks"
RESTS_ON = ("nousercfi",)


def check(facts: Facts) -> Iterator[Outcome]:
    if facts.supported:
        return
    for clone in facts.history.clones:
        yield inheritance.judge(facts, clone, "this machine has no shadow stacks")
