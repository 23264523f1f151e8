"""exec disables the shadow stack and clears ssp; a failed exec changes nothing.

## What it checks
After a successful execve csr ssp is 0, PR_GET stores 0, and no shadow-stack instruction takes
effect until the program enables its shadow stack. A failed execve leaves csr ssp unchanged.

## Why it matters
The new program's startup code is not built to push, and the old program's stack is gone.

## When it applies
Every revision. E2 covers the lock, X6 the old stack.

## Evidence columns
task_events.ssp, status of exec_begin and exec_done; syscalls of prctl and kernel_memory after it;
cfi.kind, tid.

## Example
    t1 execve(0) = 0 { exec_begin; mm2 exec_done ssp=S1.top }

## Not a violation when
the new program calls PR_SET itself.

## How to investigate
    shstk query RUN "SELECT * FROM task_events WHERE kind LIKE 'exec%'"

## Sources
process.c of the series, start_thread: status, base, size and active shadow stack are set to none on
exec; seen on 7.2.13 (exec_check).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.history import Execed
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import prctls
from shstk.replay.rules.outcome import OK, Finding, Outcome, Unknown

NEEDS = STATE
APPLIES = "exec"


def check(facts: Facts) -> Iterator[Outcome]:
    for step in facts.history.execs:
        yield _ssp(step)
        if step.succeeded:
            yield from _instructions(facts, step)
    for call in prctls.of(facts, "get"):
        if call.before.enabled_by == "exec" and call.row.ret == 0 and call.stored:
            status = int.from_bytes(call.stored, "little")
            why = "an exec disabled it"
            yield OK if not status else prctls.wrong(call, "0", str(status), why, call.row.a1)


def _ssp(step: Execed) -> Outcome:
    now = step.done.ssp
    due = 0 if step.succeeded else step.begin.ssp if step.begin else None
    if now is None or due is None:
        return Unknown("ssp at the exec is not recorded")
    if now == due:
        return OK
    what = "a new program" if step.succeeded else "execve failed"
    return _finding(step, step.seq, now, f"ssp {due:#x}", f"ssp {now:#x}", what)


def _instructions(facts: Facts, step: Execed) -> Iterator[Outcome]:
    """Shadow-stack instructions between an exec and the program's first PR_SET(1)."""
    first = facts.first_effect(step.heir, step.seq)
    if first is not None:
        expected = "no shadow-stack instruction takes effect"
        yield _finding(step, first[0], None, expected, "one did", "off since the exec")


def _finding(
    step: Execed, seq: int, addr: int | None, expected: str, actual: str, why: str
) -> Finding:
    return Finding(
        seq=seq,
        tid=step.heir.tid,
        mm=step.done.mm,
        addr=addr,
        expected=expected,
        actual=actual,
        note=f"task {step.heir.tid}: {why}",
        evidence=tuple(sorted({step.seq, seq, *((step.begin.seq,) if step.begin else ())})),
    )
