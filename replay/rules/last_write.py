"""Findings for loads from shadow stacks that did not return the word last written there."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from shstk.replay.facts import Facts
from shstk.replay.rules.outcome import Finding


def wrong_loads(facts: Facts, *by: str) -> Iterator[Finding]:
    """The wrong loads by these loaders (derive/slots.py)."""
    for row in facts.loads.wrong.filter(pl.col("load").is_in(by)).iter_rows(named=True):
        writer, task = row["due_seq"], facts.history.task(row["tid"], row["seq"])
        if writer is None and facts.astray.get(task, row["seq"]) < row["seq"]:
            continue  # ssp was already wrong: reported where it went wrong
        yield Finding(
            seq=row["seq"],
            tid=row["tid"],
            mm=row["mm"],
            addr=row["addr"],
            expected=f"{row['due']:#x}",
            actual=f"{row['found']:#x}",
            note="the word is not what was last written there"
            if writer is not None
            else "nothing was written there since it was mapped",
            evidence=(row["seq"],) if writer is None else (writer, row["seq"]),
        )
