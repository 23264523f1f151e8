"""map_shadow_stack writes one token at the end of the stack, or nothing.

## What it checks
With SHADOW_STACK_SET_TOKEN and the caller's size s, the word at base + s - 8 is base + s, and
nothing else is written. If s is not a multiple of 8, the stack is unmapped again and the call
returns -EINVAL. Without the flag nothing is written.

## Why it matters
A switch to this stack accepts the token as proof. A second token, or one at the wrong address, is a
second way in.

## When it applies
Every revision; calls that map something, and those refused because of the token.

## Evidence columns
kernel_memory.addr, bytes within the call; mappings within the call; syscalls.a1, ret.

## Example
    t1 map_shadow_stack(0, 0x1000, SHADOW_STACK_SET_TOKEN) = S2.base {
        map S2 ss; mem_write S2.top-8 u64:S2.base }

## Not a violation when
the size is not page-aligned: the token is then below the end of the last page. Size 0x1008 puts it
at base + 0x1000 (seen on 7.2.13).

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
from shstk.replay.rules.outcome import OK, Outcome
from shstk.schemas.uapi import ERRNO

NEEDS = ("syscalls", "mappings[shadow_stack]", "kernel_memory")
APPLIES = "map_shadow_stack that mapped something, or whose token is unaligned"

_EINVAL = -ERRNO["EINVAL"]


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "token unaligned"):
        if not step.failed or step.row.ret == _EINVAL:
            yield stack_mapping.refused(step, _EINVAL, "the token would be unaligned")
    for step in stack_mapping.of(facts, "good"):
        if step.made:
            yield _judge(step)


def _judge(step: StackMap) -> Outcome:
    base = step.made[0].area.base
    token = (base + step.size - 8, (base + step.size).to_bytes(8, "little"))
    due = [token] if step.token else []
    # the second word of a swap is the one written
    written = [(t.addr, t.bytes[-8:] if t.op == "swap" else t.bytes) for t in step.written]
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
