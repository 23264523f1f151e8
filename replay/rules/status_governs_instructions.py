"""Shadow-stack instructions work while enabled; landing pads take effect only while enabled.

## What it checks
In a task whose shadow stack is enabled, by prctl or inherited, no shadow-stack instruction is
illegal (2). In a task that has enabled or disabled landing pads by prctl, they take effect only
while enabled.

## Why it matters
A check that is enabled but does not run protects nothing. One that runs while disabled kills
programs that were never built for it.

## When it applies
Every run with cfi. ST1, E1, P7 and P8 check that nothing takes effect while a shadow stack is
disabled.

## Evidence columns
cfi.kind, fault, tid; syscalls of prctl, with a0, a1, a2 and ret.

## Example
    t1 prctl(PR_SET_SHADOW_STACK_STATUS, PR_SHADOW_STACK_ENABLE) = 0 { map S1 ss }
    t1 ssp_read fault=2

## Not a violation when
sspush, sspopchk and ssrdp run while the shadow stack is disabled: they do nothing and have no row.

## How to investigate
    shstk log RUN --tid <tid>

## Sources
ISA manual, unprivileged CFI chapter: "if (xSSE == 1)" before each of sspush, sspopchk and ssrdp; an
access to ssp, or ssamoswap, with xSSE = 0 raises an illegal-instruction exception; lpad is a no-op
unless xLPE = 1.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.instructions import kind
from shstk.replay.derive.legs import with_legs
from shstk.replay.derive.status import statuses
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules.manual import finding
from shstk.replay.rules.outcome import Outcome, Satisfied
from shstk.schemas.causes import ILLEGAL_INSTRUCTION

NEEDS = ("cfi", *STATE)
APPLIES = "shadow-stack instruction while enabled, or landing pad after a PR_SET_CFI"


def check(facts: Facts) -> Iterator[Outcome]:
    yield from facts.gathered(_effects)


def _effects(facts: Facts) -> Gather[list[Outcome]]:
    """Asks for the status of those rows alike of a leg at once: it is the same."""
    known = statuses(facts.history)
    pad, illegal = kind() == "lpad", (pl.col("fault") == ILLEGAL_INSTRUCTION).fill_null(False)
    on = pl.when("pad").then("pads").otherwise("shadow_stack")
    right, found = 0, list[Outcome]()
    while piece := (yield):
        rows = with_legs(
            piece.brief.select("seq", "tid", "mm", "count", pad=pad, illegal=illegal),
            known["seq"],
            "left",
        )
        alike = (
            rows.group_by("leg", "pad", "illegal")
            .agg(pl.col("seq", "tid").first(), pl.col("count").cast(pl.UInt64).sum())
            .sort("seq")
            .join_asof(known, on="seq", by="tid", check_sortedness=False)
            .with_columns(on=on)
            .filter((pl.col("on") | pl.col("pad")) & pl.col("on").is_not_null())
        )
        wrong = alike.filter(pl.col("on") == pl.col("illegal"))
        right += int(alike["count"].sum()) - int(wrong["count"].sum())
        if wrong.height:
            rows = with_legs(
                piece.rows.select("seq", "tid", "mm", pad=pad, illegal=illegal),
                known["seq"],
                "left",
            )
            keys = rows.join(wrong, on=["leg", "pad", "illegal"]).select("seq", "on")
            told = piece.rows.join(keys, on="seq", maintain_order="left")
            for row in told.iter_rows(named=True):
                due = "no illegal instruction: it is on" if row["on"] else "no effect: it is off"
                found.append(finding(row, "fault", due))
    return [*([Satisfied(right)] if right else ()), *found]


GATHERS = (_effects,)
