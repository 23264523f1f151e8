"""A handler is entered with the interrupted ELP; after sigreturn no landing pad is expected.

## What it checks
A signal frame does not save ELP. After a landing-pad fault the handler is entered with a landing
pad still expected: its first instruction must be an lpad, or it faults too. After sigreturn none is
expected: the instruction at the frame's pc runs, lpad or not.

## Why it matters
A handler without an lpad looks correct, but faults when it is to handle a landing-pad fault. A
handler that skips a missing pad lets the jump through.

## When it applies
Every revision: landing-pad faults whose SIGSEGV goes to a handler, and sigreturns of tasks whose
landing pads are on, where the run shows what the task did next.

## Evidence columns
faults.cause, tval, pc; cfi of kind lpad; flow.block, code.pc; signals.handler.

## Example
    20 t1 fault 18 tval=2 pc=0x10400
       t1 deliver SIGSEGV handler=0x10500
    21 t1 flow 1
with block 1 at 0x10500, and no lpad there.

## Not a violation when
the signal came for another reason, between the jump and its target.

## How to investigate
    shstk query RUN "SELECT seq, tid, pc, expected, found FROM faults WHERE cause = 18 AND tval = 2"

## Sources
The series' signal.c saves no landing-pad state; privileged manual, Zicfilp: a trap saves ELP and
clears it; a handler without lpad after a landing-pad fault kills the process (seen on 7.2.13).
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.handlings import Handling
from shstk.replay.derive.rows import Fault
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.outcome import OK, Outcome, Unknown
from shstk.replay.rules.signal_steps import deliveries, first_blocks, returns, wrong
from shstk.schemas.causes import LANDING_PAD_FAULT, SOFTWARE_CHECK
from shstk.schemas.seq import STEPS

NEEDS = (*STATE, "signals")
APPLIES = "landing-pad fault with a handler, or sigreturn with landing pads on"

_MISSED = (SOFTWARE_CHECK, LANDING_PAD_FAULT)


def check(facts: Facts) -> Iterator[Outcome]:
    entered = [h for h in deliveries(facts) if h.row.handler is not None and _missed(facts, h)]
    left = [h for h in returns(facts) if h.state.lp_enabled and not h.refused]
    blocks = first_blocks(facts, [*entered, *left])
    pads = _pads(facts, entered)
    for step in entered:
        yield _entered(facts, step, blocks, pads)
    for step in left:
        yield _left(facts, step, blocks)


def _missed(facts: Facts, step: Handling) -> bool:
    """Whether a missing pad raised this signal."""
    here = facts.faults.of(step.row.tid, step.icount * STEPS, step.seq)
    return bool(here) and (here[-1].cause, here[-1].tval) == _MISSED


def _next_attempt(facts: Facts, step: Handling) -> Fault | None:
    """The fault of the first instruction attempted after a step."""
    end = (step.icount + 2) * STEPS - 1
    later = facts.faults.of(step.row.tid, step.seq, end)
    return later[0] if later else None


def _entered(
    facts: Facts, step: Handling, blocks: dict[int, tuple[int, int]], pads: set[int]
) -> Outcome:
    handler, fault = (step.row.handler or 0) & ~1, _next_attempt(facts, step)
    refused = fault and (fault.cause, fault.tval, fault.pc) == (*_MISSED, handler)
    if refused or step.seq in pads:
        return OK
    if step.seq not in blocks:
        return Unknown("the handler's first instruction is not recorded")
    why = "a landing pad was expected when the signal came"
    return wrong(step, f"an lpad at {handler:#x}, or a fault", "neither", why, handler,
                 blocks[step.seq][0])  # fmt: skip


def _left(facts: Facts, step: Handling, blocks: dict[int, tuple[int, int]]) -> Outcome:
    fault = _next_attempt(facts, step)
    if fault and (fault.cause, fault.tval) == _MISSED and step.at_once is None:
        why = "the frame holds no ELP"
        return wrong(step, "no landing pad expected", "a landing-pad fault", why, fault.pc,
                     fault.seq)  # fmt: skip
    return OK if step.seq in blocks else Unknown("where the task resumed is not recorded")


def _pads(facts: Facts, steps: list[Handling]) -> set[int]:
    """The deliveries whose handler's first instruction was an lpad that passed."""
    asked = pl.DataFrame(
        [((h.icount + 1) * STEPS, h.row.tid, (h.row.handler or 0) & ~1, h.seq) for h in steps],
        schema={"seq": pl.UInt64, "tid": pl.UInt32, "pc": pl.UInt64, "step": pl.UInt64},
        orient="row",
    )
    if asked.is_empty():
        return set()
    held = facts.run.scan("cfi").filter(
        pl.col("seq").is_in(asked["seq"].to_list())
        & (pl.col("kind").cast(pl.String) == "lpad")
        & pl.col("fault").is_null()
    )
    rows = held.select("seq", "tid", "pc").join(asked.lazy(), on=["seq", "tid", "pc"]).collect()
    return set(rows["step"])
