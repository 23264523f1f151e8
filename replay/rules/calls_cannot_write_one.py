"""read(2) into a shadow stack returns -EFAULT; write(2) from one works.

## What it checks
A read or pread64 whose buffer begins in a shadow stack stores nothing. A write or pwrite64 whose
buffer lies entirely in a readable shadow stack does not return -EFAULT.

## Why it matters
The kernel's own stores must be refused where the program's are, or return addresses could be
written from a file.

## When it applies
Every revision.

## Evidence columns
syscalls.nr, a1, a2, ret; mappings.shadow_stack at that address.

## Example
    t1 read(0, S1.base, 8) = 8

## Not a violation when
it fails for another reason, or is at the end of the file (returns 0). /proc/PID/mem and ptrace may
write where FOLL_FORCE is allowed.

## How to investigate
    shstk log RUN --calls read,write

## Sources
seen on 7.2.13: read(2) into a shadow stack gives -EFAULT, write(2) from it works; copy_to_user
stores as user mode does, and an ordinary store there is an access fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shstk.replay.derive.rows import Call
from shstk.replay.facts import Facts
from shstk.replay.rules import words
from shstk.replay.rules.outcome import OK, Finding, Outcome
from shstk.schemas.uapi import ERRNO, PROT_READ, PROT_WRITE

NEEDS = ("mappings", "syscalls", "syscalls.a1", "syscalls.a2")
APPLIES = "read or write of a shadow stack's bytes"

_READS: Final = ("read", "pread64")
_WRITES: Final = ("write", "pwrite64")


def check(facts: Facts) -> Iterator[Outcome]:
    for call in facts.calls(*_READS, *_WRITES):
        region = facts.regions.at(call.mm, call.a1, call.seq)
        if region is None or not region.shadow_stack or not call.a2 or call.ret is None:
            continue
        faulted = call.ret == -ERRNO["EFAULT"]
        if call.name in _READS:
            if faulted:
                yield OK
            elif call.ret > 0:
                yield _finding(call, "-EFAULT", region.made_seq)
        elif call.a1 + call.a2 <= region.end and region.prot & (PROT_READ | PROT_WRITE):
            if call.ret > 0:
                yield OK
            elif faulted:
                yield _finding(call, f"{call.a2}", region.made_seq)


def _finding(call: Call, expected: str, made: int) -> Finding:
    verb = "read into" if call.name in _READS else "write from"
    return Finding(
        seq=call.seq,
        tid=call.tid,
        mm=call.mm,
        addr=call.a1,
        expected=expected,
        actual=words.result(call.ret),
        note=f"{verb} {call.a1:#x}, {call.a2} bytes, on a shadow stack",
        evidence=(made, call.seq),
    )
