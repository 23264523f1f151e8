"""Whose stack is this, who allocated it, who should have freed it: the data of `shstk stacks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from shstk.replay.derive.sharing import on_stacks
from shstk.replay.derive.stacks import Stack
from shstk.replay.facts import Facts
from shstk.schemas.tables import Column

if TYPE_CHECKING:
    from shstk.replay.run import Run

COLUMNS: Final = (
    Column("mm", "u32?", "number", "address space"),
    Column("base", "u64", "address", "lowest address"),
    Column("size", "u64", "size", "bytes"),
    Column("top", "u64", "address", "base + size, where ssp begins"),
    Column("owner", "u32?", "pid", "the task that has it recorded as its own"),
    Column("ssp", "u64?", "address", "the owner's csr ssp, then or at its last event"),
    Column("how", "str", "kind", "clone, prctl, map_shadow_stack, fork copy or mremap"),
    Column("made_by", "u32?", "pid", "the task whose call mapped it"),
    Column("made_seq", "u64", "seq", "seq of that call"),
    Column("released_by", "u32?", "pid", "the task during whose call or exit it was unmapped"),
    Column("released_seq", "u64?", "seq", "when it was unmapped"),
    Column(
        "released_how",
        "str?",
        "kind",
        "exit, exec, prctl, failed clone, munmap, mmap, mm dropped, …",
    ),
    Column(
        "should",
        "str?",
        "text",
        "who should have unmapped it, where and why, if that did not happen",
    ),
    Column("high_water", "u64?", "size", "bytes from the top to the lowest word ever pushed"),
)
_DTYPES: Final = {"u32": "UInt32", "u64": "UInt64", "str": "String"}


def stacks(run: Run, at: int | None = None, addr: int | None = None) -> pl.DataFrame:
    """Every shadow stack of a run, by intent's words; columns of COLUMNS, in order of making.

    at: only those that stood at that seq, with ssp and depth as of then. addr: only those that hold
    the address, or have it as their top.
    """
    facts = Facts(run, run.row, "intent")
    chosen = [
        (i, s)
        for i, s in enumerate(facts.stacks)
        if (at is None or (s.step <= at and (s.ended is None or at < s.ended.seq)))
        and (addr is None or s.area.holds(addr) or s.area.top == addr)
    ]
    deepest = _deepest(facts, at)
    should = _should(facts)
    last = _last_ssp(facts, at)
    rows = [_row(s, deepest.get(i), should.get(i), last) for i, s in chosen]
    schema = {c.name: getattr(pl, _DTYPES[c.base]) for c in COLUMNS}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _row(
    stack: Stack, lowest: int | None, should: str | None, last: dict[int, int | None]
) -> tuple[Any, ...]:
    end, owner = stack.ended, stack.owner
    return (
        stack.mm,
        stack.area.base,
        stack.area.size,
        stack.area.top,
        owner.tid if owner else None,
        last.get(owner.tid) if owner else None,
        stack.how,
        stack.by,
        stack.step,
        end.by if end else None,
        end.seq if end else None,
        end.how if end else None,
        should,
        stack.area.top - lowest if lowest is not None else None,
    )


def _deepest(facts: Facts, at: int | None) -> dict[int, int]:
    """The lowest address pushed to on each stack."""
    cfi = facts.run.scan("cfi").filter(
        (pl.col("kind").cast(pl.String) == "sspush") & pl.col("fault").is_null()
    )
    if at is not None:
        cfi = cfi.filter(pl.col("seq") <= at)
    lowest = on_stacks(cfi, facts.stacks).group_by("mark").agg(pl.col("addr").min())
    return dict(lowest.iter_rows())


def _last_ssp(facts: Facts, at: int | None) -> dict[int, int | None]:
    path = facts.ssp_path if at is None else facts.ssp_path.filter(pl.col("seq") <= at)
    ends = path.sort("seq").group_by("tid").agg(pl.col("ssp_after").drop_nulls().last())
    return dict(ends.iter_rows())


def _should(facts: Facts) -> dict[int, str]:
    """For stacks that outlived the step that should have unmapped them: which that was."""
    late: dict[int, str] = {}
    history = facts.history
    for i, stack in enumerate(facts.stacks):
        for exit in history.exits:
            mine = exit.task is stack.owner and exit.releases == stack.area
            if mine and exit.complete and not exit.mapped.gone:
                late[i] = f"task {exit.task.tid}'s exit: its own, recorded base and size"
        for clone in history.clones:
            if clone.seq == stack.step and clone.failed and not clone.mapped.gone:
                late[i] = f"task {clone.row.tid}'s failed clone: no child came to own it"
        if stack.ended and stack.ended.how in ("exit", "prctl", "failed clone", "exec"):
            owner = stack.owner
            if owner and (owner.tid != stack.ended.by or stack.ended.how == "failed clone"):
                late[i] = f"task {owner.tid}'s own exit: task {stack.ended.by} took it away"
    return late
