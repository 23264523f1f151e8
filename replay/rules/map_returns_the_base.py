"""map_shadow_stack returns the base of the stack, or up to v26, with a token, the token's address.

## What it checks
A successful call returns the base of what it mapped. Up to v26, with SHADOW_STACK_SET_TOKEN, it
returns the address of the token (base + size - 8).

## Why it matters
A library that mistakes one for the other switches to the wrong end of the stack.

## When it applies
It follows the revision: map_token_returns is token up to v26, base from 7.0-rc1.

## Evidence columns
syscalls.ret of map_shadow_stack; mappings.start within the call.

## Example
    kernel 7.2; t1 map_shadow_stack(0, 0x1000, SHADOW_STACK_SET_TOKEN) = S2.top-8 { map S2 ss; … }

## Not a violation when
the call fails.

## How to investigate
    shstk query RUN "SELECT seq, tid, a0, a1, a2, ret FROM syscalls WHERE nr = 453"

## Sources
usercfi.c, allocate_shadow_stack: up to v26 "addr = tok_loc" follows the write of the token; as
merged "create_rstor_token(addr + token_offset, NULL)" does not return the token's address, and
"return addr" returns the base; seen on 7.2.13.
"""

from __future__ import annotations

from collections.abc import Iterator

from shstk.replay.facts import Facts
from shstk.replay.rules import stack_mapping
from shstk.replay.rules.outcome import OK, Outcome

NEEDS = ("syscalls", "mappings[shadow_stack]")
APPLIES = "map_shadow_stack that succeeded"
RESTS_ON = ("map_token_returns",)


def check(facts: Facts) -> Iterator[Outcome]:
    for step in stack_mapping.of(facts, "good"):
        if step.failed or step.row.ret is None or not step.made:
            continue
        base = step.made[0].area.base
        token = step.token and facts.law.map_token_returns == "token"
        due = base + step.size - 8 if token else base
        if step.row.ret % 2**64 == due:
            yield OK
        else:
            what = "the token" if token else "the base"
            yield stack_mapping.wrong(step, f"{due:#x}", stack_mapping.answer(step), what)
