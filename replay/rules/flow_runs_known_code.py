"""Every block that ran is recorded, whole, and has as many instructions as were executed.

## What it checks
Blocks are numbered from 1 in the order of their first run. A block has as many bytes as its length
says and ends with a whole instruction. It does not run before its row in code, and the next block
begins as many instructions later as it has, unless the block was interrupted. If code is mapped
privately from a file and nothing has written to it, its bytes are the file's.

## Why it matters
Calls, returns and source lines are derived from flow and code. A wrong block shows wrong functions.

## When it applies
Every recorded run of a program with flow. Handwritten runs are exempt.

## Evidence columns
flow.seq, block; code.block, pc, length, bytes, module; mappings.input, offset, flags, during;
kernel_memory; syscalls; inputs.guest_path; files.

## Example
    a block of 7 instructions at 100.0, and the next at 105.0

## Not a violation when
the kernel interrupted the block: a fault, a context switch, a signal, or stack growth, after which
the instruction runs again. Or the block stored to itself: the instructions after the store are a
block of their own. If a debugger wrote to the code, its bytes are not the file's; nor need they be
if the program may have written to the file, which a private mapping shows.

## How to investigate
    shstk query RUN "SELECT * FROM code WHERE block = <block>"

## Sources
docs/schema.md, code and flow.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, Final

import polars as pl

from shstk.replay.derive.memory_access import STORES, access_of
from shstk.replay.facts import Facts
from shstk.replay.rules import trace
from shstk.replay.rules.outcome import OK, Outcome, Satisfied
from shstk.schemas import seq as positions
from shstk.schemas.seq import STEPS
from shstk.schemas.uapi import MAP_SHARED, O_ACCMODE, O_TRUNC, PROT_WRITE

NEEDS = (
    "flow",
    "code",
    "kernel_memory.mm",
    "mappings",
    "mappings.flags",
    "faults",
    "sched",
    "signals",
)
ALSO = ("mappings.input", "mappings.during", "inputs", "syscalls")
# Calls that name a file which may be written to afterwards, perhaps under another name.
_NAMING: Final = ("openat", "openat2", "truncate", "linkat", "renameat2", "symlinkat")
APPLIES = "block that ran in a recorded run"


def check(facts: Facts) -> Iterator[Outcome]:
    if not facts.of_program:
        return
    yield from _steps(facts)
    yield from _blocks(facts)


def _blocks(facts: Facts) -> Iterator[Outcome]:
    rows = facts.run.table("code").join(
        facts.walked[1].firsts, on="block", how="full", coalesce=True, maintain_order="left"
    )
    from_file = _FileBytes(facts)
    for number, row in enumerate(rows.iter_rows(named=True), 1):
        if row["seq"] is None:
            odd = row | {"seq": row["first"], "tid": row["by"]}
            yield trace.odd(odd, "a row in code", "none", f"block {row['block']}")
            continue
        words = facts.code.blocks.get(row["block"], [])
        size = sum(4 if word & 3 == 3 else 2 for word in words)
        due = from_file(row)
        laws = {
            f"block {number}": row["block"] == number,
            f"{row['length']} bytes of whole instructions": size
            == row["length"]
            == len(row["bytes"]),
            f"a first run at {positions.show(row['seq'])}": row["first"] is None
            or row["first"] >= row["seq"],
            f"bytes {(due or b'').hex()}, as its file has": due in (row["bytes"], None),
        }
        broken = next((law for law, holds in laws.items() if not holds), None)
        if broken is None:
            yield OK
            continue
        actual = f"block {row['block']}, {len(row['bytes'])} bytes {row['bytes'].hex()}"
        if row["first"] is not None:
            actual += f", first run at {positions.show(row['first'])}"
        yield trace.odd(row, broken, actual, f"the block at {row['pc']:#x}", row["pc"])


class _FileBytes:
    """The bytes that a block must have if it comes from a file that the program cannot change."""

    def __init__(self, facts: Facts) -> None:
        self._regions = facts.regions
        inputs = facts.run.table("inputs")
        self._hashes: dict[int | None, str] = dict(inputs.select("input", "sha256").iter_rows())
        self._paths: dict[int | None, str] = dict(inputs.select("input", "guest_path").iter_rows())
        self._facts = facts
        self._held = cache(facts.run.held)
        self._transfers = facts.transfers

    def __call__(self, row: dict[str, Any]) -> bytes | None:
        region = self._regions.at(row["mm"], row["pc"], row["seq"])
        if region is None or region.prot & PROT_WRITE or region.flags & MAP_SHARED:
            return None
        if region.from_seq != region.made_seq:
            return None  # it may have been written before it was write-protected
        sha256 = self._hashes.get(region.input)
        data = self._held(sha256) if sha256 else None
        at: int = region.offset + row["pc"] - region.start
        due = data[at : at + len(row["bytes"])] if data else None
        if due is None or due == row["bytes"]:
            return due
        name = self._paths[region.input].rsplit("/", 1)[-1]
        return None if name in self._changed or self._written(row) else due

    @cached_property
    def _changed(self) -> set[str]:
        """Names of files that the program may have written to."""
        calls = {
            call.seq
            for call in self._facts.calls(*_NAMING)
            if (call.ret or 0) >= 0 and (call.name != "openat" or call.a2 & (O_ACCMODE | O_TRUNC))
        }
        read = (t.bytes for t in self._transfers if t.during in calls and t.op == "read")
        return {path.rsplit(b"/", 1)[-1].decode("utf-8", "backslashreplace") for path in read}

    def _written(self, row: dict[str, Any]) -> bool:
        """Whether a debugger has written to a block, despite the protection of its page."""
        end = row["pc"] + len(row["bytes"])
        return any(
            t.op != "read"
            and t.mm == row["mm"]
            and t.seq < row["seq"]
            and t.addr < end
            and row["pc"] < t.addr + t.size
            for t in self._transfers
        )


def _steps(facts: Facts) -> Iterator[Outcome]:
    """Compare each block's length with the instructions executed."""
    steps, halts = facts.walked[1], _halts(facts)
    odd = steps.odd
    begins, ends = odd["seq"] // STEPS, odd["seq"] // STEPS + odd["took"]
    quiet = halts.search_sorted(begins) == halts.search_sorted(ends)
    wrong = [row for row in odd.filter(quiet).iter_rows(named=True) if not _stale(facts, row)]
    yield Satisfied(max(steps.count - 1, 0) - len(wrong))
    for row in wrong:
        expected = f"{row['has']} instructions until the next block"
        yield trace.odd(row, expected, f"{row['took']}", f"block {row['block']}")


def _halts(facts: Facts) -> pl.Series:
    """The icounts at which a block may have been interrupted: switches, signals and faults.

    A fault that only grew the stack has one row: a mapping that is not during any call."""
    tables = [facts.run.table(name)["seq"] for name in ("sched", "signals", "faults")]
    grown = facts.run.table("mappings").filter(pl.col("during").is_null())["seq"]
    return (pl.concat([*tables, grown]) // STEPS).unique().sort()


def _stale(facts: Facts, row: dict[str, Any]) -> bool:
    """Whether a block ended after one of its stores, which may have changed the code after it."""
    code, took = facts.code, row["took"]
    words = code.blocks.get(row["block"], [])
    if not 0 < took < len(words) or access_of(words[took - 1]) not in STORES:
        return False
    size = sum(4 if word & 3 == 3 else 2 for word in words[:took])
    return code.starts.get(row["then"]) == code.starts[row["block"]] + size
