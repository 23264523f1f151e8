"""A handler starts at its address, with the signal's arguments, and returns to the vdso.

## What it checks
The first block of code after a delivery is the handler's. The return address that a handler pushes
first is rt_sigreturn in the vdso, and the rt_sigreturn call comes from there. If a second signal is
delivered before the handler's first instruction, its frame shows the registers: pc = handler,
ra = rt_sigreturn, t0 = ra if the shadow stack is enabled (the old t0 is in the frame), sp = the
frame, a0 = the signal, a1 = the siginfo, a2 = the ucontext.

## Why it matters
A handler compiled for shadow stacks pushes ra and compares t0 when it returns. If they differed,
every handler would fault at its end.

## When it applies
Every revision; deliveries after which one of these three is recorded.

## Evidence columns
flow.block, code.pc; cfi.value of the first push; syscalls.pc of rt_sigreturn; kernel_memory.bytes
of a frame stored at the same icount; mappings for the address of the vdso.

## Example
    t1 deliver SIGUSR1 token handler=0x10500 frame=0x7000_0000
    t1 sspush 0x10234 pc=0x10500
0x10234 is in the program, not in the vdso.

## Not a violation when
the handler pushes something else before ra: only a push in its first 16 bytes counts as ra.

## How to investigate
    shstk log RUN

## Sources
arch/riscv/kernel/signal.c, setup_rt_frame: ra is rt_sigreturn in the vdso, and so
is t0 with a shadow stack; the kernel names a0, a1, a2 signal, siginfo and ucontext.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.handlings import Handling
from shstk.replay.derive.rows import called
from shstk.replay.derive.sigframe import A0, A1, A2, PC, RA, SP, T0, UCONTEXT, Frame
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Outcome, Unknown
from shstk.replay.rules.signal_steps import deliveries, first_blocks, returns, wrong
from shstk.schemas.seq import STEPS

NEEDS = (
    *STATE,
    "signals",
    "mappings.prot",
    "mappings.flags",
    "cfi.value",
    "signals.signo",
    "signals.frame",
)
ALSO = ("signals.sigreturn_seq", "syscalls.pc")
APPLIES = "delivery after which the handler's registers or first instructions are recorded"

_PROLOGUE = 16  # bytes in which a first push is that of ra
_LI = 8  # the most bytes of code in the vdso before its ecall


def check(facts: Facts) -> Iterator[Outcome]:
    entered = [h for h in deliveries(facts) if h.row.handler is not None]
    blocks, pushes = first_blocks(facts, entered), _first_pushes(facts, entered)
    calls = _calls(facts)
    frames = {h.seq: h.frame for h in entered}
    for step in entered:
        nested = frames.get(step.at_once.seq) if step.at_once else None
        if nested:
            yield from _registers(facts, step, nested)
        if step.seq in blocks:
            yield _block(step, *blocks[step.seq])
        if step.seq in pushes:
            task = facts.history.task(step.row.tid, step.seq)
            if facts.history.task(step.row.tid, pushes[step.seq][0]) is not task:
                continue  # it died before, and its tid is another's
            called_from = calls.get((step.row.tid, step.row.frame), [])
            after = called_from[bisect_right(called_from, (step.seq, 2**64)) :][:1]
            own = (pc for seq, pc in after if facts.history.task(step.row.tid, seq) is task)
            pc = next(own, None)
            yield _pushed(facts, step, *pushes[step.seq], pc)


def _registers(facts: Facts, step: Handling, frame: Frame) -> Iterator[Outcome]:
    """Check the registers saved by a signal that came before the handler's first instruction."""
    row, base = step.row, step.row.frame or 0
    ra = frame.reg(RA)
    due = {
        "pc": (PC, (row.handler or 0) & ~1),
        "sp": (SP, base),
        "a0": (A0, row.signo),
        "a1": (A1, base),
        "a2": (A2, base + UCONTEXT),
    }
    if facts.supported and step.state.enabled:
        due["t0"] = (T0, ra)
    for name, (number, value) in due.items():
        found = frame.reg(number)
        if found is not None and found != value:
            expected = f"{name} {words.address(value)}"
            yield wrong(step, expected, f"{name} {found:#x}", "as the handler began", found)
            return
    yield OK if ra is None else _to_vdso(facts, step, ra, None)


def _block(step: Handling, seq: int, pc: int) -> Outcome:
    handler = (step.row.handler or 0) & ~1
    if pc == handler:
        return OK
    return wrong(step, f"pc {handler:#x}", f"pc {pc:#x}", "the handler's first block", pc, seq)


def _pushed(facts: Facts, step: Handling, seq: int, ra: int, call: int | None) -> Outcome:
    """Compare the return address that a handler pushed with the pc of its rt_sigreturn call."""
    if call is not None and not 0 < call - ra <= _LI:
        why = "the code that the handler returns to calls rt_sigreturn"
        return wrong(step, f"ra just before {call:#x}", f"ra {ra:#x}", why, ra, seq)
    return _to_vdso(facts, step, ra, seq)


def _to_vdso(facts: Facts, step: Handling, ra: int, seq: int | None) -> Outcome:
    region = facts.regions.at(step.row.mm, ra, step.seq)
    if region and region.name == "[vdso]":
        return OK
    if region is None and step.row.mm not in facts.with_vdso:
        return Unknown("the address of the vdso is not recorded")
    where = region.name or "anonymous memory" if region else "nothing mapped"
    actual = f"ra {ra:#x} ({where})"
    return wrong(step, "ra in the vdso", actual, "where the handler returns to", ra, seq)


def _first_pushes(facts: Facts, steps: list[Handling]) -> dict[int, tuple[int, int]]:
    """A handler's first shadow-stack event if it is a push: its seq and value, by delivery."""
    asked = pl.DataFrame(
        [(h.seq, h.row.tid, (h.row.handler or 0) & ~1) for h in steps if h.followed_by is None],
        schema={"at": pl.UInt64, "tid": pl.UInt32, "handler": pl.UInt64},
        orient="row",
    )
    if asked.is_empty():
        return {}
    prologues = sorted({pc for h in asked["handler"].unique() for pc in range(h, h + _PROLOGUE, 2)})
    pushes = facts.run.scan("cfi").filter(
        (pl.col("kind").cast(pl.String) == "sspush")
        & pl.col("fault").is_null()
        & pl.col("pc").is_in(prologues)
    )
    behind = pl.col("pc") - pl.col("handler")
    rows = (
        asked.lazy()
        .sort("at")
        .join_asof(
            pushes.select("seq", "tid", "pc", "value").sort("seq"),
            left_on="at",
            right_on="seq",
            by="tid",
            strategy="forward",
            check_sortedness=False,
        )
        # ran without interruption or jump: no more instructions than fit before the push
        .filter(
            behind < _PROLOGUE, pl.col("seq") // STEPS - pl.col("at") // STEPS <= behind // 2 + 1
        )
        .select("at", "seq", "value")
        .collect()
    )
    return {at: (seq, value) for at, seq, value in rows.iter_rows()}


def _calls(facts: Facts) -> dict[tuple[int | None, int | None], list[tuple[int, int]]]:
    """Where each rt_sigreturn was called from: (seq, pc) by task and frame."""
    rows = facts.run.scan("syscalls").filter(called("rt_sigreturn"))
    pcs = dict(rows.select("seq", "pc").drop_nulls().collect().iter_rows())
    found: dict[tuple[int | None, int | None], list[tuple[int, int]]] = {}
    for step in returns(facts):
        pc = pcs.get(step.row.sigreturn_seq)
        if pc is not None:
            found.setdefault((step.row.tid, step.row.frame), []).append((step.seq, pc))
    return found
