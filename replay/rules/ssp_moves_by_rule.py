"""Only instructions, signals and the kernel's handoffs change ssp.

## What it checks
A signal's token decrements ssp by 8 (from v2), and sigreturn sets it to the token. Between two
events of a task ssp does not change. Z1 to Z6 cover the effect of single instructions.

## Why it matters
Return addresses are checked against the word at ssp. If ssp changes by itself, or a trap, a context
switch or the kernel fails to preserve it, the check uses the wrong word.

## When it applies
Every run with cfi. Between events the rule also uses first_user, exec_done, system calls and
signals.

## Evidence columns
cfi.ssp_before, ssp_after; signals.ssp_before, ssp_after, token_addr,
token_value; syscalls.ssp_entry, ssp_exit; task_events.ssp.

## Example
    t1 sspush 0x10234             # leaves ssp at S1.top-8
    t1 sspush 0x10300 ssp_before=S1.top

## Not a violation when
the program writes csr ssp (longjmp, green threads, ucontext), or a debugger sets it by ptrace. ST2,
P6 and E1 cover changes by system calls.

## How to investigate
    shstk query RUN "SELECT * FROM ssp_path WHERE tid = <tid> ORDER BY seq"

## Sources
ISA manual, unprivileged CFI chapter: a push stores at ssp-8 and only then moves ssp, a pop moves it
by 8 only if the words agree. Documentation/arch/riscv/zicfiss.rst: "The sspush x1/x5 instruction
pushes (stores) x1/x5 to shadow stack."
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import STATE, Facts, gather_motions, gather_stretches
from shstk.replay.rules.outcome import Finding, Outcome, Satisfied

NEEDS = ("cfi", *STATE, "signals")
APPLIES = "event with a task's ssp"
GATHERS = (
    gather_stretches,
    gather_motions,
)
RESTS_ON = ("signal_ssp",)


def check(facts: Facts) -> Iterator[Outcome]:
    count, wrong = facts.stretches[0], facts.wrong_moves
    if count > len(wrong):
        yield Satisfied(count - len(wrong))
    for row in wrong:
        yield Finding(
            seq=row["seq"],
            tid=row["tid"],
            mm=row["mm"],
            addr=row["is"],
            expected=f"{row['what']} {row['due']:#x}",
            actual=f"{row['is']:#x}",
            note=f"{row['cause']} of task {row['tid']}",
            evidence=(row["seq"],) if row["last"] is None else (row["last"], row["seq"]),
        )
