"""Shared by the rules about signals: the steps that they judge, and the form of a finding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl

from shstk.replay.derive.handlings import Handling
from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import Finding
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import SIGNAL_NAMES

if TYPE_CHECKING:
    from shstk.replay.derive.rows import Signal


def deliveries(facts: Facts) -> Iterator[Handling]:
    """The deliveries that reached the push of the token or the store of the frame."""
    return (h for h in facts.handlings if h.row.kind == "delivery")


def returns(facts: Facts) -> Iterator[Handling]:
    return (h for h in facts.handlings if h.row.kind == "sigreturn")


def signal(number: int | None) -> str:
    return SIGNAL_NAMES.get(number or 0, f"signal {number}")


def then(row: Signal | None) -> str:
    """The task's next row of signals, in words."""
    if row is None:
        return "nothing"
    if row.kind == "fatal":
        return f"death by {signal(row.signo)}"
    return "sigreturn" if row.kind == "sigreturn" else f"{signal(row.signo)} delivered"


def wrong(
    step: Handling,
    expected: str,
    actual: str,
    why: str,
    addr: int | None = None,
    seq: int | None = None,
) -> Finding:
    """A finding at the delivery or return, or at `seq`."""
    row = step.row
    what = "sigreturn" if row.kind == "sigreturn" else f"delivery of {signal(row.signo)}"
    return Finding(
        seq=step.seq if seq is None else seq,
        tid=row.tid,
        mm=row.mm,
        addr=addr,
        expected=expected,
        actual=actual,
        note=f"{what} in task {row.tid}: {why}",
        evidence=tuple(sorted({step.seq, *(t.seq for t in step.tokens), *([seq] if seq else [])})),
    )


def first_blocks(facts: Facts, steps: list[Handling]) -> dict[int, tuple[int, int]]:
    """The first block after each step that the task resumed from at once: its seq and pc, by the
    step's seq. Empty if flow was not recorded."""
    wanted = pl.DataFrame(
        [((h.icount + 1) * STEPS, h.row.tid, h.seq) for h in steps if h.at_once is None],
        schema={"seq": pl.UInt64, "tid": pl.UInt32, "step": pl.UInt64},
        orient="row",
    )
    if wanted.is_empty():
        return {}
    rows = (
        facts.run.scan("flow")
        .filter(pl.col("seq").is_in(wanted["seq"].to_list()))  # skips most of a long run
        .select("seq", "tid", "block")
        .join(wanted.lazy(), on=["seq", "tid"])
        .join(facts.run.scan("code").select("block", "pc"), on="block")
        .select("step", "seq", "pc")
        .collect()
    )
    return {step: (seq, pc) for step, seq, pc in rows.iter_rows()}
