"""map_shadow_stack writes one token at the end, or nothing at all.

## What it checks
With SHADOW_STACK_SET_TOKEN and the caller's own size s: the word at base + s - 8 is base + s, and
nothing else is written. If s is no multiple of 8, the mapping is taken back and the call is
-EINVAL. Without the flag nothing is written.

## Why it matters
The token is what a switch to this stack takes as proof; a second one, or one in the wrong place, is
a second way in.

## When it applies
Every revision; calls that map something, and those that are refused for the token.

## Evidence columns
kernel_memory.addr, bytes within the call; mappings within the call; syscalls.a1, ret.

## Example
    t1 map_shadow_stack(0, 0x1000, SHADOW_STACK_SET_TOKEN) = S2.base {
        map S2 ss; mem_write S2.top-8 u64:S2.base }

## Not a violation when
the size is unaligned, and the token stands below the last page's end: size 0x1008 puts it at base
+ 0x1000 (seen).

## How to investigate
    shstk query RUN "SELECT * FROM kernel_memory WHERE during = <seq of the call>"

## Sources
usercfi.c as merged, create_rstor_token: "On RISC-V we're constructing token to be function of
address itself"; "Token must be aligned"; allocate_shadow_stack: "vm_munmap(addr, size); return
-EINVAL".
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.derive.stack_maps import StackMap
from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import OK, Outcome, Unknown
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls", "mappings")
APPLIES = "map_shadow_stack that mapped something, or whose token is unaligned"

_EINVAL = -ERRNO["EINVAL"]


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "token unaligned"):
        if not step.failed or step.row.ret == _EINVAL:
            yield stack_mapping.refused(step, _EINVAL, "the token would be unaligned")
    for step in stack_mapping.of(facts, "good"):
        if step.made:
            yield _judge(facts, step)


def _judge(facts: Facts, step: StackMap) -> Outcome:
    base = step.made[0].area.base
    token = (base + step.size - 8, (base + step.size).to_bytes(8, "little"))
    due = [token] if step.token else []
    # a swap's second word is the one that was written
    written = [(t.addr, t.bytes[-8:] if t.op == "swap" else t.bytes) for t in step.written]
    if step.token and not written and not facts.recorded("kernel_memory"):
        return Unknown("what the kernel writes is not recorded")
    if step.token and step.failed:
        return stack_mapping.wrong(
            step, "the token written", stack_mapping.answer(step), "there is room for it"
        )
    if written == due:
        return OK
    return stack_mapping.wrong(step, _shown(due), _shown(written), "the token")


def _shown(words: list[tuple[int, bytes]]) -> str:
    if words:
        return ", ".join(f"{addr:#x}: {int.from_bytes(data, 'little'):#x}" for addr, data in words)
    return "nothing written"
