"""With landing pads enabled, an indirect jump lands on one.

## What it checks
After a jalr, c.jr or c.jalr through a register other than x1, x5 and x7, the task's next block
begins with an lpad, even if a signal handler or a context switch comes in between.

## Why it matters
This is the purpose of landing pads: an indirect jump to anywhere else is an attack, or calls a
function that was built without them.

## When it applies
Every run with flow; tasks that have enabled landing pads by prctl.

## Evidence columns
flow.tid, block; code.bytes; syscalls of prctl PR_SET_CFI.

## Example
    flow 1      # ends with c.jr a0
    flow 2      # begins with something else

## Not a violation when
the block was interrupted before its jump. If the jump itself faulted, the next block is a
handler's, which must begin with an lpad too.

## How to investigate
    shstk query RUN "SELECT * FROM flow WHERE tid = <tid> ORDER BY seq"

## Sources
ISA manual, unprivileged CFI chapter: an indirect jump whose rs1 is not x1, x5 or x7 sets ELP to
LP_EXPECTED; the next instruction must be an lpad, else a software check is raised.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.clock import with_clock
from shstk.replay.derive.code import expects_pad, name_of
from shstk.replay.derive.lives import with_life
from shstk.replay.derive.status import statuses
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import Outcome, Satisfied

NEEDS = ("flow", *STATE)
APPLIES = "indirect jump with landing pads enabled"


def check(facts: Facts) -> Iterator[Outcome]:
    status = statuses(facts.history)
    tids = status.filter(pl.col("pads"))["tid"].unique()
    if not len(tids):
        return
    blocks = facts.code.blocks
    jumps = {number: len(words) for number, words in blocks.items() if expects_pad(words[-1])}
    pads = [number for number, words in blocks.items() if name_of(words[0]) == "lpad"]
    rows = facts.run.scan("flow").filter(pl.col("tid").is_in(tids.to_list()))
    before = pl.col("block").shift().over("tid", "life")
    count = before.replace_strict(jumps, default=None, return_dtype=pl.Int64)
    ran = pl.col("clock") - pl.col("clock").shift().over("tid", "life")
    landed = (
        with_life(facts.run, with_clock(facts.run, rows))
        .with_columns(before=before, jumped=pl.col("seq").shift().over("tid", "life"))
        .filter(ran >= count)  # null: it does not end with a jump
        .collect()
        .sort("jumped")
        .join_asof(
            status.lazy().collect().rename({"seq": "set"}),
            left_on="jumped",
            right_on="set",
            by="tid",
            check_sortedness=False,
        )
        .filter(pl.col("pads"))
    )
    wrong = landed.filter(~pl.col("block").is_in(pads)).sort("seq")
    if landed.height > wrong.height:
        yield Satisfied(landed.height - wrong.height)
    for row in wrong.iter_rows(named=True):
        what = f"after block {row['before']}, which ends with an indirect jump"
        seqs = (row["jumped"],)
        yield trace.odd(row, "an lpad", f"block {row['block']}", what, evidence=seqs)
