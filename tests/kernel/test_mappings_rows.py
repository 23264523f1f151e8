"""Whoever reads only the rows of `mappings` knows the areas that the kernel model has."""

from __future__ import annotations

from typing import Any

from direct import Direct
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.replay.derive.regions import Regions
from shstk.replay.derive.rows import Mapping, Rows
from shstk.schemas.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
)

BASE = 0x4000_0000
PLACE, COUNT = st.integers(0, 15), st.integers(1, 6)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["ss", "map", "unmap"]), PLACE, COUNT),
    st.tuples(st.just("protect"), PLACE, COUNT, st.integers(0, 7)),
    st.tuples(st.just("resize"), PLACE, COUNT, COUNT),
    st.tuples(st.just("move"), PLACE, COUNT, COUNT, PLACE),
)


def call(d: Direct, op: str, place: int, count: int, *more: int) -> Any:
    addr, size = BASE + place * PAGE, count * PAGE
    match op:
        case "ss":
            return d.call("map_shadow_stack", addr, size, 0)
        case "map":
            return d.call("mmap", addr, size, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        case "unmap":
            return d.call("munmap", addr, size)
        case "protect":
            return d.call("mprotect", addr, size, more[0])
        case "resize":
            return d.call("mremap", addr, size, more[0] * PAGE, MREMAP_MAYMOVE, 0)
    flags = MREMAP_MAYMOVE | MREMAP_FIXED
    return d.call("mremap", addr, size, more[0] * PAGE, flags, BASE + more[1] * PAGE)


def pages(areas: Any) -> dict[int, tuple[bool, int]]:
    return {at: (a.shadow_stack, a.prot) for a in areas for at in range(a.start, a.end, PAGE)}


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=30))
def test_the_rows_tell_every_page(steps: list[Any]) -> None:
    d = Direct()
    ours = pages(d.mm.vmas)
    call(d, "ss", 0, 12)
    for step in steps:
        call(d, *step)
    names = Mapping.__dataclass_fields__
    rows = [Mapping(**{n: row[n] for n in names}) for row in d.rows.tables["mappings"]]
    told = pages(Regions(Rows(rows), Rows(()), {}).within(d.mm.id, 0, 2**63, 2**63))
    assert told == {at: page for at, page in pages(d.mm.vmas).items() if at not in ours}
