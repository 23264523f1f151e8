"""Findings about the record itself: rows that contradict other rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shstk.replay.rules.outcome import Finding


def odd(
    row: Mapping[str, Any],
    expected: str,
    actual: str,
    note: str,
    addr: int | None = None,
    evidence: tuple[int, ...] = (),
) -> Finding:
    """A violation at a row with seq, tid and mm. evidence: seqs of the rows it contradicts."""
    return Finding(
        seq=row["seq"],
        tid=row["tid"],
        mm=row["mm"],
        addr=addr,
        expected=expected,
        actual=actual,
        note=note,
        evidence=tuple(sorted({*evidence, row["seq"]})),
    )
