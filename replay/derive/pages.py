"""Accesses of shadow-stack instructions by page: the kind of page, and whether they faulted.

There are many accesses and few pages: accesses to one page with the same outcome, between which
nothing was mapped, unmapped or copied, are one `Visit`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import polars as pl

from shstk.replay.derive.gather import Gather
from shstk.replay.derive.places import Mark, last_marks
from shstk.replay.derive.regions import Region, Regions
from shstk.replay.derive.rows import Copied, Mapping, Rows
from shstk.schemas.causes import SOFTWARE_CHECK, STORE_ACCESS, STORE_PAGE
from shstk.schemas.uapi import PAGE, PROT_EXEC, PROT_WRITE


@dataclass(frozen=True, slots=True)
class Visit:
    """The first of `count` accesses. fault: the fault that they raised; None: none.

    due: the faults that are correct (None: none); empty if the mapping is not recorded.
    history: protected, forked (and not accessed since by this side), fresh (not accessed since it
    was mapped) or used. what: the page, in words.
    """

    seq: int
    tid: int | None
    mm: int | None
    addr: int
    fault: int | None
    count: int
    due: tuple[int | None, ...]
    history: str
    what: str


def visits(
    regions: Regions, mappings: Rows[Mapping], forks: Rows[Copied], whole: bool
) -> Gather[list[Visit]]:
    """All visits in seq order. whole: the run has every mapping, not only shadow stacks."""
    touched: dict[tuple[int | None, int], int] = {}
    forked: dict[int | None, list[int]] = {}  # when each mm was copied, or made as a copy
    for fork in forks:
        for side in (fork.mm, fork.from_mm):
            forked.setdefault(side, []).append(fork.seq)
    protects = [Mark(m.mm, m.area, m.seq, 0) for m in mappings if m.op == "protect" and m.done]
    groups = last_marks((yield from _groups(mappings, forks)), protects).sort("seq")
    found = []
    for seq, tid, mm, addr, fault, count, protected in groups.drop("mark").iter_rows():
        region = regions.at(mm, addr, seq)
        last = touched.get((mm, addr // PAGE), -1)
        times = forked.get(mm, [])
        copied = times[bisect_left(times, seq) - 1] if times and times[0] < seq else -1
        history = _history(region, last, -1 if protected is None else protected, copied)
        due, what = _due(region, whole)
        found.append(Visit(seq, tid, mm, addr, fault, count, due, history, what))
        if fault is None:
            touched[mm, addr // PAGE] = seq
    return found


def _groups(mappings: Rows[Mapping], forks: Rows[Copied]) -> Gather[pl.DataFrame]:
    """seq, tid, mm, addr, fault and count of each visit."""
    times = pl.Series(sorted({r.seq for r in (*mappings, *forks)}), dtype=pl.UInt64)
    fault = pl.col("fault").replace({SOFTWARE_CHECK: None})  # the word was read
    misaligned = (fault == STORE_ACCESS).fill_null(False) & (pl.col("addr") % 8 != 0)  # Z5, Z9
    names = ["seq", "tid", "mm", "addr", "fault", "count"]
    same = ("mm", "page", "since", "fault")
    groups = []
    while piece := (yield):
        rows = piece.brief.select(names).filter(
            pl.col("addr").is_not_null()
            & (fault.is_null() | fault.is_in([STORE_ACCESS, STORE_PAGE]))
            & ~misaligned
        )
        since = times.search_sorted(rows["seq"])
        keyed = rows.with_columns(fault=fault, page=pl.col("addr") // PAGE, since=since)
        groups.append(
            keyed.group_by(same, maintain_order=True)
            .agg(pl.col("seq", "tid", "addr").first(), pl.col("count").cast(pl.UInt64).sum())
            .select(names)
        )
    return pl.concat(groups)


def _due(region: Region | None, whole: bool) -> tuple[tuple[int | None, ...], str]:
    """The correct faults for a page, by the manual's table, and the page in words."""
    if region is None:
        return ((STORE_PAGE,) if whole else (), "nothing is mapped there")
    if region.guard:
        return (STORE_PAGE,), f"a guard region at {region.start:#x}+{region.length:#x}"
    writable = bool(region.prot & PROT_WRITE)
    if region.shadow_stack:
        what = f"shadow stack {region.start:#x}+{region.length:#x}"
        return ((None,), what) if writable else ((STORE_PAGE,), f"{what}, not writable")
    what = f"{region.name or 'ordinary memory'} {region.start:#x}+{region.length:#x}"
    if not writable:
        # an executable page is an ordinary one if it is present
        present = (STORE_ACCESS,) if region.prot & PROT_EXEC else ()
        return (STORE_PAGE, *present), f"{what}, not writable"
    # a page past the end of its file does not exist
    return (STORE_ACCESS,) if region.input is None else (STORE_ACCESS, STORE_PAGE), what


def _history(region: Region | None, last: int, protected: int, copied: int) -> str:
    """last, protected, copied: when the page was last accessed and protected, its mm last copied;
    -1: never."""
    if region is None or not region.shadow_stack:
        return "used"
    since = region.made_seq
    if protected > since:
        return "protected"
    if copied > max(since, last):
        return "forked"
    return "used" if last > since else "fresh"
