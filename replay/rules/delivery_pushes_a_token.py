"""Signal delivery to an enabled task pushes a token that holds the old ssp.

## What it checks
On delivery to a task whose shadow stack is enabled, ssp decreases by 8, the word there holds the
old ssp, and its address is saved in the frame as ss_ptr. An alternate signal stack makes no
difference. v1 leaves ssp unchanged, against the intent: the handler's first push overwrites the
token. A task whose shadow stack is disabled gets no token and keeps its ssp. If the token or the
frame cannot be stored, no handler runs: the task gets a SIGSEGV, or dies if the signal was SIGSEGV.

## Why it matters
sigreturn accepts the token as proof that this delivery happened. Without it a program that forges a
frame could set ssp.

## When it applies
Every revision; deliveries to a handler, including those that failed.

## Evidence columns
signals.token_addr, token_value, ss_ptr, ssp_before, ssp_after, handler; kernel_memory.addr, bytes
of the delivery; earlier prctl calls of the task.

## Example
    t1 deliver SIGUSR1 token handler=0x10500 frame=0x7000_0000
with nothing in kernel_memory that stores S1.top to S1.top-8.

## Not a violation when
the program had moved ssp to an address that cannot be pushed to: it gets the SIGSEGV above.

## How to investigate
    shstk query RUN "SELECT * FROM signals WHERE kind = 'delivery'"

## Sources
Series, signal.c, setup_rt_frame: save_user_shstk before the frame is filled in; usercfi.c,
create_rstor_token: the token holds the old ssp; save_user_shstk: set_active_shstk from v2 on
(v1 23/28, Message-ID 20240125062739.1339782-24-debug@rivosinc.com, has none); seen on 7.2.13
(signal: handler, altstack, nested).
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.handlings import Handling
from shstk.replay.derive.rows import Signal
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Outcome, Unknown
from shstk.replay.rules.signal_steps import deliveries, then, wrong
from shstk.schemas.uapi import SIGNALS

NEEDS = (*STATE, "signals", "signals.signo", "kernel_memory", "signals.handler")
ALSO = ("signals.ss_ptr", "signals.ssp_after", "signals.token_value")
APPLIES = "delivery of a signal"
RESTS_ON = ("signal_ssp",)

_SIGSEGV, _SIGKILL = SIGNALS["SIGSEGV"], SIGNALS["SIGKILL"]


def check(facts: Facts) -> Iterator[Outcome]:
    for step in deliveries(facts):
        if not (facts.supported and step.state.enabled):
            yield _untouched(step)
        else:
            yield _pushed(facts, step)
        if step.row.handler is None and step.next:
            if step.task in facts.traced:
                yield Unknown("a debugger may have kept the SIGSEGV")
            else:
                yield _failed(step, step.next)


def _untouched(step: Handling) -> Outcome:
    row = step.row
    if row.token_addr is not None:
        return wrong(step, "no token", f"one at {row.token_addr:#x}", "its shadow stack is off",
                     row.token_addr)  # fmt: skip
    if row.ssp_before is None or row.ssp_after is None:
        return Unknown("ssp at the delivery is not recorded")
    if row.ssp_before != row.ssp_after:
        expected, actual = words.address(row.ssp_before), words.address(row.ssp_after)
        return wrong(step, f"ssp {expected}", f"ssp {actual}", "its shadow stack is off",
                     row.ssp_after)  # fmt: skip
    return OK


def _pushed(facts: Facts, step: Handling) -> Outcome:
    row, before = step.row, step.row.ssp_before
    if before is None:
        return Unknown("ssp at the delivery is not recorded")
    slot = (before - 8) % 2**64
    if row.token_addr is None:
        if row.handler is None:
            return OK  # it could not be pushed; _failed judges what follows
        told = (row.ss_ptr, row.token_value, *(t.addr for t in step.tokens))
        if row.ssp_after != before or any(value is not None for value in told):
            return Unknown("the token of the delivery is not recorded")
        return wrong(step, f"token at {slot:#x}", "none", "its shadow stack is on", slot)
    recorded = {"token": row.token_addr, "ss_ptr": row.ss_ptr}
    for name, value in recorded.items():
        if value is not None and value != slot:
            return wrong(step, f"{name} {slot:#x}", f"{name} {value:#x}", "one word down", value)
    moved = facts.law.signal_ssp == "moved"
    ssp, why = (slot, "one word down") if moved else (before, "it is kept")
    if row.ssp_after not in (None, ssp):
        return wrong(step, f"ssp {ssp:#x}", f"ssp {row.ssp_after:#x}", why, row.ssp_after)
    if row.token_value is not None and row.token_value != before:
        actual = f"token {row.token_value:#x}"
        return wrong(step, f"token {before:#x}", actual, "the token is the old ssp", slot)
    stored = [t.bytes for t in step.tokens if t.addr == slot]
    if stored != [before.to_bytes(8, "little")]:
        actual = "nothing" if not stored else f"{int.from_bytes(stored[-1][-8:], 'little'):#x}"
        return wrong(step, f"{before:#x} stored", actual, "the token is the old ssp", slot)
    return OK


def _failed(step: Handling, after: Signal) -> Outcome:
    """No handler could be entered: SIGSEGV is forced, or kills if it was the signal."""
    killed = after.kind == "fatal" and after.signo in (_SIGSEGV, _SIGKILL)
    forced = after.kind == "delivery" and after.signo == _SIGSEGV and step.row.signo != _SIGSEGV
    if killed or forced:
        return OK
    expected = "death by SIGSEGV" if step.row.signo == _SIGSEGV else "SIGSEGV"
    why = "its frame could not be stored"
    return wrong(step, expected, then(after), why, step.row.frame, after.seq)
