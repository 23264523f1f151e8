"""The list of areas against one that looks at every area, with so many that it has chunks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.schemas.uapi import PAGE
from shstk.tracer.kernel.mm.vma import Vma
from shstk.tracer.kernel.mm.vmalist import VmaList

PAGES = 4000  # of the range in which the tests map


def kinds(vmas: VmaList) -> dict[int, tuple[int, bool]]:
    return {at: (v.prot, v.shadow_stack) for v in vmas for at in range(v.start, v.end, PAGE)}


def gap_by_looking(vmas: VmaList, length: int, below: int, low: int, high: int) -> int | None:
    """Every page from the top: free, and not in the gap that an area above keeps."""
    taken = {p for v in vmas for p in range(v.gap_start, v.end, PAGE)}
    mapped = {p for v in vmas for p in range(v.start, v.end, PAGE)}
    for start in range(high - length, low - 1 + below, -PAGE):
        whole = range(start, start + length, PAGE)
        guard = range(start - below, start, PAGE)
        if not taken.intersection(whole) and not mapped.intersection(guard):
            return start
    return None


PLACE = st.integers(1, PAGES)
EDITS = st.lists(
    st.tuples(st.just("cut"), PLACE, st.integers(1, 700))
    | st.tuples(st.sampled_from(["rw", "ro", "ss"]), PLACE, st.integers(1, 8)),
    max_size=40,
)
VMAS = {"rw": (3, False), "ro": (1, False), "ss": (3, True)}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), EDITS, st.integers(1, 12), st.booleans())
def test_against_pages(every: int, edits: list[Any], wanted: int, guarded: bool) -> None:
    vmas, model = VmaList(), dict[int, tuple[int, bool]]()
    edits = [*(("rw", at, 1) for at in range(1, PAGES, every)), *edits]
    for kind, place, count in edits:
        start, end = place * PAGE, (place + count) * PAGE
        parts = vmas.remove(start, end)
        pages = range(start, end, PAGE)
        assert sum(v.length for v in parts) == sum(p in model for p in pages) * PAGE
        model = {p: k for p, k in model.items() if p not in pages}
        if kind != "cut":
            prot, shadow_stack = VMAS[kind]
            vmas.add(Vma(start, end, prot, shadow_stack))
            model |= dict.fromkeys(pages, VMAS[kind])
    assert kinds(vmas) == model
    assert vmas.total == len(model) * PAGE
    assert vmas.data == sum(kind == (3, False) for kind in model.values()) * PAGE
    assert len(vmas) == len(list(vmas))
    neighbours = list(vmas)
    for below, above in pairwise(neighbours):
        assert below.end < above.start or not above.continues(below)
    for high in (PAGES * PAGE, (PAGES - 700) * PAGE):
        question = (wanted * PAGE, PAGE * guarded, PAGE, high)
        assert vmas.highest_gap(*question) == gap_by_looking(vmas, *question)
    for at in range(0, (PAGES + 10) * PAGE, 97 * PAGE):
        inside = [v for v in neighbours if v.start <= at < v.end]
        assert vmas.find(at) == (inside[0] if inside else None)
        assert vmas.after(at) == next((v for v in neighbours if v.start >= at), None)
        assert vmas.before(at) == next((v for v in neighbours[::-1] if v.end <= at), None)


def test_a_copy_is_another_list() -> None:
    vmas = VmaList([Vma(n * PAGE, (n + 1) * PAGE, 3) for n in range(1, 1000, 2)])
    copy = vmas.copy()
    vmas.remove(0, 500 * PAGE)
    assert len(copy) == 500
    assert copy.total == 500 * PAGE
