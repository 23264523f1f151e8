"""mremap: one area or many, with gaps, twice, and with the old place left mapped."""

from __future__ import annotations

from typing import Any

import pytest
from direct import Direct
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.schemas.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
)

PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS
FIXED = MREMAP_MAYMOVE | MREMAP_FIXED
DONTUNMAP = MREMAP_MAYMOVE | MREMAP_DONTUNMAP
A, B = 0x4000_0000, 0x5000_0000


@pytest.fixture
def d() -> Direct:
    return Direct()


def area(d: Direct, at: int, pages: int, prot: int = 3, flags: int = PRIVATE) -> None:
    assert d.call("mmap", at, pages * PAGE, prot, flags | MAP_FIXED, -1, 0) == at


def areas(d: Direct, base: int) -> list[tuple[int, int, int]]:
    """(first page, pages, protection) of the areas from a base on."""
    found = d.mm.vmas.touching(base, base + 0x100000)
    return [((v.start - base) // PAGE, v.length // PAGE, v.prot) for v in found]


def test_it_shrinks_over_areas_and_holes(d: Direct) -> None:
    area(d, A, 2)
    area(d, A + 2 * PAGE, 1, prot=1)
    area(d, A + 4 * PAGE, 2)
    assert d.call("mremap", A, 5 * PAGE, PAGE, 0) == A
    assert areas(d, A) == [(0, 1, 3), (5, 1, 3)]
    assert d.call("mremap", A, 2**64 - PAGE, PAGE, 0) == "EINVAL"


def test_the_same_size_in_place_is_nothing(d: Direct) -> None:
    area(d, A, 1)
    assert d.call("mremap", A, 9 * PAGE, 9 * PAGE, 0) == A
    assert d.call("mremap", B, PAGE, PAGE, 0) == "EFAULT"


def test_many_areas_move_with_their_gaps(d: Direct) -> None:
    """remap_move, since 6.17. What lies in the gaps of the new place stays."""
    area(d, A, 1, prot=1)
    area(d, A + PAGE, 2)
    area(d, A + 5 * PAGE, 1)
    area(d, B + 4 * PAGE, 1, prot=0)
    assert d.mm.space.write(A + 5 * PAGE, b"moved")
    assert d.call("mremap", A, 6 * PAGE, 6 * PAGE, FIXED, B) == B
    assert areas(d, A) == []
    assert areas(d, B) == [(0, 1, 1), (1, 2, 3), (4, 1, 0), (5, 1, 3)]
    assert d.get(B + 5 * PAGE, 5) == b"moved"
    rows = [r for r in d.rows.tables["mappings"] if r["op"] == "remap"]
    assert [(r["old_start"], r["start"], r["length"]) for r in rows] == [
        (A, B, PAGE),
        (A + PAGE, B + PAGE, 2 * PAGE),
        (A + 5 * PAGE, B + 5 * PAGE, PAGE),
    ]
    assert d.call("mremap", B - PAGE, 3 * PAGE, 3 * PAGE, FIXED, A) == "EFAULT"
    assert d.call("mremap", B, 2 * PAGE, 3 * PAGE, FIXED, A) == "EFAULT", "only whole moves"


def test_it_grows_in_place_with_the_file(d: Direct) -> None:
    fd = d.open("/tmp/x", 0o102)
    assert d.write(fd, b"0" * PAGE + b"1" * PAGE) == 2 * PAGE
    assert d.call("mmap", A, PAGE, 3, MAP_PRIVATE | MAP_FIXED, fd, 0) == A
    assert d.call("mremap", A, PAGE, 2 * PAGE, 0) == A
    assert d.get(A + PAGE, 1) == b"1"
    assert areas(d, A) == [(0, 2, 3)]


def test_an_old_size_of_zero_maps_shared_memory_again(d: Direct) -> None:
    area(d, A, 2, flags=SHARED)
    again = d.call("mremap", A + PAGE, 0, PAGE, MREMAP_MAYMOVE)
    assert d.mm.space.write(again, b"both")
    assert d.get(A + PAGE, 4) == b"both"
    assert d.call("mremap", A, 0, PAGE, 0) == "ENOMEM"
    area(d, B, 1)
    assert d.call("mremap", B, 0, PAGE, MREMAP_MAYMOVE) == "EINVAL"


def test_a_second_mapping_of_what_is_at_its_own_place(d: Direct) -> None:
    """Seen on 6.18: the place is emptied first."""
    area(d, A, 3, flags=SHARED)
    assert d.call("mremap", A + PAGE, 0, PAGE, FIXED, A + PAGE) == "EFAULT"
    assert areas(d, A) == [(0, 1, 3), (2, 1, 3)]
    gone, failed = d.rows.tables["mappings"][-2:]
    assert (gone["op"], gone["start"], failed["op"], failed["start"]) == (
        *("unmap", A + PAGE),
        *("remap", None),
    )


def test_shared_memory_does_not_grow_with_its_mapping(d: Direct) -> None:
    area(d, A, 1, flags=SHARED)
    assert d.call("mremap", A, PAGE, 2 * PAGE, 0) == A
    assert d.mm.space.read(A + PAGE, 1) is None


def test_the_old_place_can_stay_mapped(d: Direct) -> None:
    area(d, A, 2)
    assert d.mm.space.write(A, b"pages go")
    to = d.call("mremap", A, 2 * PAGE, 2 * PAGE, DONTUNMAP, 0)
    assert d.get(to, 8) == b"pages go"
    assert d.get(A, 8) == bytes(8)
    assert areas(d, A) == [(0, 2, 3)]
    assert d.call("mremap", A, 2 * PAGE, PAGE, DONTUNMAP, 0) == "EINVAL"
    assert d.call("mremap", A, PAGE, PAGE, MREMAP_DONTUNMAP, 0) == "EINVAL"
    assert d.call("mremap", A, PAGE, PAGE, DONTUNMAP | FIXED, B) == B
    stack = int(d.call("map_shadow_stack", 0, PAGE, 1))
    moved = d.call("mremap", stack, PAGE, PAGE, DONTUNMAP, 0)
    assert d.get(moved + PAGE - 8, 8) != bytes(8)
    assert d.get(stack, PAGE) == bytes(PAGE)
    vma = d.mm.vmas.find(stack)
    assert vma is not None
    assert vma.shadow_stack


def test_what_stays_mapped_is_not_locked(d: Direct) -> None:
    """dontunmap_complete: nor is the rest of its area (seen on 6.18)."""
    area(d, A, 3)
    d.call("mlock", A, 3 * PAGE)
    assert d.call("mremap", A + PAGE, PAGE, PAGE, FIXED | DONTUNMAP, B) == B
    assert areas(d, A) == [(0, 3, 3)]
    assert [v.start for v in d.mm.vmas if "lo" in v.flags] == [B]


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ((A, PAGE, PAGE, 8), "EINVAL"),
        ((A, PAGE, 0, 0), "EINVAL"),
        ((A, PAGE, PAGE, MREMAP_FIXED, B), "EINVAL"),
        ((A, PAGE, PAGE, FIXED, B + 1), "EINVAL"),
        ((A, PAGE, PAGE, FIXED, A), "EINVAL"),
        ((A, PAGE, PAGE, FIXED, 2**56), "EINVAL"),
        ((A, PAGE, PAGE, FIXED, 0), "EPERM"),
        ((A + 1, PAGE, PAGE, 0), "EINVAL"),
        ((A, PAGE, 2 * PAGE, 0), "ENOMEM"),
    ],
)
def test_what_is_refused(d: Direct, call: Any, answer: str) -> None:
    area(d, A, 1)
    area(d, A + PAGE, 1, prot=1)
    assert d.call("mremap", *call) == answer
    [row] = [r for r in d.rows.tables["mappings"] if r["op"] == "remap"]
    assert row["ret"] < 0


def test_a_sealed_area_stays_as_it_is(d: Direct) -> None:
    area(d, A, 3)
    assert d.call("mseal", A + PAGE, PAGE, 1) == "EINVAL"
    assert d.call("mseal", A + 1, PAGE, 0) == "EINVAL"
    assert d.call("mseal", A + 2 * PAGE, 2 * PAGE, 0) == "ENOMEM"
    assert d.call("mseal", A + PAGE, 1, 0) == 0
    for refused in (
        ("munmap", A, 3 * PAGE),
        ("mmap", A, 3 * PAGE, 3, PRIVATE | MAP_FIXED, -1, 0),
        ("mprotect", A + PAGE, PAGE, 1),
        ("mremap", A + PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE),
        ("mremap", A, 3 * PAGE, PAGE, 0),
    ):
        assert d.call(*refused) == "EPERM", refused
    area(d, B, 1)
    assert d.call("mremap", B, PAGE, PAGE, FIXED, A + PAGE) == "EPERM"
    assert areas(d, A) == [(0, 1, 3), (1, 1, 3), (2, 1, 3)]
    assert d.call("madvise", A + PAGE, PAGE, 4) == 0, "it can be written anyway"
    area(d, B, 1, prot=1)
    assert d.call("mseal", B, PAGE, 0) == 0
    assert d.call("madvise", B, PAGE, 4) == "EPERM"
    assert d.call("madvise", B, PAGE, 0) == 0


def test_another_part_of_the_file_in_the_same_place(d: Direct) -> None:
    """remap_file_pages, emulated since 4.0."""
    fd = d.open("/tmp/x", 0o102)
    assert d.write(fd, b"0" * PAGE + b"1" * PAGE) == 2 * PAGE
    at = int(d.call("mmap", 0, 2 * PAGE, 3, MAP_SHARED, fd, 0))
    assert d.call("remap_file_pages", at, PAGE, 0, 1, 0) == 0
    assert d.get(at, 1) + d.get(at + PAGE, 1) == b"11"
    assert d.call("remap_file_pages", at, 2 * PAGE, 0, 0, 0) == 0, "areas of different offsets"
    assert d.get(at, 1) + d.get(at + PAGE, 1) == b"01"
    assert d.call("mprotect", at, PAGE, 1) == 0
    assert d.call("remap_file_pages", at, 2 * PAGE, 0, 0, 0) == "EINVAL", "different protections"
    assert d.call("remap_file_pages", at, PAGE, 1, 0, 0) == "EINVAL"
    area(d, A, 1)
    assert d.call("remap_file_pages", A, PAGE, 0, 0, 0) == "EINVAL"


PLACE, COUNT = st.integers(0, 11), st.integers(1, 5)
STEPS = st.lists(
    st.tuples(st.sampled_from(["map", "unmap"]), PLACE, COUNT)
    | st.tuples(st.sampled_from(["move", "leave"]), PLACE, COUNT, st.integers(20, 31)),
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_moves_against_a_model_of_pages(steps: list[Any]) -> None:
    """Each page has a byte of its own, which goes where the page goes."""
    d, model, fresh = Direct(), dict[int, int](), 0
    for op, place, count, *more in steps:
        at, size, pages = A + place * PAGE, count * PAGE, range(place, place + count)
        match op:
            case "map":
                area(d, at, count)
                for page in pages:
                    fresh += 1
                    assert d.mm.space.write(A + page * PAGE, bytes([fresh % 256]))
                    model[page] = fresh % 256
            case "unmap":
                assert d.call("munmap", at, size) == 0
                model = {page: byte for page, byte in model.items() if page not in pages}
            case "move" | "leave":
                to = more[0]
                flags = FIXED | (MREMAP_DONTUNMAP if op == "leave" else 0)
                done = d.call("mremap", at, size, size, flags, A + to * PAGE)
                if place not in model:
                    assert done == "EFAULT"
                    continue
                assert done == A + to * PAGE
                for page in sorted(model.keys() & set(pages)):
                    model[to + page - place] = model[page]
                    model[page] = 0
                    if op == "move":
                        del model[page]
        found = {n: d.mm.space.read(A + n * PAGE, 1) for n in range(40)}
        assert {n: byte[0] for n, byte in found.items() if byte is not None} == model
