"""The kernel does not enable CFI because of an ELF note.

## What it checks
The .note.gnu.property (type 0xc0000000) of a program may have the bit for landing pads (1) or for a
shadow stack (2). An exec of such a program maps no shadow stack, the first ssp is 0, and no landing
pad takes effect before the program's first PR_SET_CFI.

## Why it matters
Acting on the note is up to the program: its C library reads it, with the notes of all the libraries
it loads, and calls prctl. A kernel that acted on it would enable programs whose libraries were
never built for CFI.

## When it applies
Every revision; successful execs of files with such a note. The note is read from the file in the
run.

## Evidence columns
modules.input; inputs.sha256 and the file itself; mappings within the exec; task_events.ssp of
first_user; cfi of kind lpad.

## Example
    t1 execve(0x1000, 0, 0) = 0 { exec_begin; mm2 new_mm exec mm1; map S1 ss; exec_done }
where the program's note has the bit for a shadow stack.

## Not a violation when
a loader or the C library enables it: that is a prctl (outcome loader if made during the exec).

## How to investigate
    readelf -n <the program>
    shstk query RUN "SELECT * FROM mappings WHERE shadow_stack"

## Sources
The series enables CFI by prctl only. The kernel ignores the note of user programs and leaves the
policy to user space.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import polars as pl

from shstk.replay.derive.elf_property import features
from shstk.replay.derive.history import Execed, Task
from shstk.replay.derive.nearest import firsts
from shstk.replay.facts import STATE, Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.schemas.uapi import GNU_PROPERTY_RISCV_FEATURE_1_CFI_LP_UNLABELED as LANDING_PADS
from shstk.schemas.uapi import GNU_PROPERTY_RISCV_FEATURE_1_CFI_SS as SHADOW_STACK
from shstk.schemas.uapi import PR_SET_CFI

NEEDS = (*STATE, "mappings[shadow_stack]")
ALSO = ("cfi", "task_events.ssp")
APPLIES = "exec of a program whose ELF note asks for landing pads or a shadow stack"


def check(facts: Facts) -> Iterator[Outcome]:
    asked = _asked(facts)
    judged = []
    for step in facts.history.execs:
        begin = step.begin.seq if step.begin else step.seq
        inside = asked[bisect_left(asked, (begin, 0)) : bisect_left(asked, (step.seq + 1, 0))]
        bits = next((found for _, found in inside if found), 0)
        if step.succeeded and bits:
            judged.append((step, bits))
    pads = _first_pads(facts, [step for step, _ in judged])
    for step, bits in judged:
        yield _judge(step, bits, pads.get(step.seq))


def _asked(facts: Facts) -> list[tuple[int, int]]:
    """When each file was mapped as code, and the feature bits of its note."""
    files = facts.run.table("inputs").select("input", "sha256")
    rows = facts.run.table("modules").join(files, on="input").select("seq", "sha256").rows()
    bits = {sha256: features(facts.run.held(sha256) or b"") for sha256 in {s for _, s in rows}}
    return sorted((seq, bits[sha256]) for seq, sha256 in rows)


def _judge(step: Execed, bits: int, pad: tuple[int, int | None] | None) -> Outcome:
    names = {LANDING_PADS: "landing pads", SHADOW_STACK: "a shadow stack"}
    why = " and ".join(name for bit, name in names.items() if bits & bit)
    made, first = step.mapped.made, step.heir.first_user
    if made:
        seq, addr, actual = made[0].seq, made[0].start, f"mapped {words.areas(made)}"
    elif first and first.ssp and first.seq > step.seq:
        seq, addr, actual = first.seq, first.ssp, f"first ssp {first.ssp:#x}"
    elif pad:
        seq, addr, actual = *pad, "a landing pad took effect"
    else:
        return OK
    return Finding(
        seq=seq,
        tid=step.heir.tid,
        mm=step.done.mm,
        addr=addr,
        expected="nothing enabled before a prctl",
        actual=actual,
        note=f"task {step.heir.tid}'s program asks for {why} in its ELF note",
        evidence=(step.seq, seq),
    )


def _first_pads(facts: Facts, steps: list[Execed]) -> dict[int, tuple[int, int | None]]:
    """A program's first landing-pad event, if before its first prctl; by the exec's seq."""
    sets: dict[Task, list[int]] = {}
    for call in facts.history.prctls:
        if call.option == PR_SET_CFI:
            sets.setdefault(call.task, []).append(call.seq)
    lands = pl.col("kind").cast(pl.String) == "lpad"
    found = firsts(facts.run, [(s.heir.tid, s.seq) for s in steps], lands, "pc")
    pads = {}
    for step in steps:
        own = sets.get(step.heir, [])
        ends = (*own[bisect_left(own, step.seq) :][:1], step.heir.exit_seq, 2**64)
        pad = found.get((step.heir.tid, step.seq))
        if pad and pad[0] < min(end for end in ends if end):
            pads[step.seq] = pad
    return pads
