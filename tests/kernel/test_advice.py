"""madvise: what each advice does to areas, pages and children, and across areas and holes."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from direct import Direct
from guest_run import run
from hypothesis import given, settings
from hypothesis import strategies as st

from shstk.schemas.uapi import (
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MADV_HUGEPAGE,
    MADV_KEEPONFORK,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
)
from shstk.tracer.kernel.proc.memtext import vm_flags as flags_of
from shstk.tracer.kernel.process.clone import dup_mm

PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS
BASE = 0x4000_0000


@pytest.fixture
def d() -> Direct:
    return Direct()


def ordinary(d: Direct, pages: int, flags: int = PRIVATE, prot: int = 3) -> int:
    return int(d.call("mmap", 0, pages * PAGE, prot, flags, -1, 0))


def shadow(d: Direct, pages: int) -> int:
    return int(d.call("map_shadow_stack", 0, pages * PAGE, 0))


def vm_flags(d: Direct, at: int) -> str:
    vma = d.mm.vmas.find(at)
    assert vma is not None
    return flags_of(vma).removeprefix("rd wr ").strip()


EVERYWHERE = [
    *(MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_FREE),
    *(MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP),
    *(MADV_DODUMP, MADV_WIPEONFORK, MADV_KEEPONFORK, MADV_DONTNEED_LOCKED),
    *(MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_POPULATE_READ),
]


@pytest.mark.parametrize("make", [ordinary, shadow])
@pytest.mark.parametrize("advice", EVERYWHERE)
def test_a_hole_is_reported_after_all_areas(d: Direct, make: Any, advice: int) -> None:
    """Seen on 7.2: MADV_DONTFORK over a partly unmapped shadow stack is -ENOMEM."""
    at = make(d, 3)
    assert d.call("madvise", at, 3 * PAGE, advice) == 0
    assert d.call("munmap", at + PAGE, PAGE) == 0
    assert d.call("madvise", at, 3 * PAGE, advice) == "ENOMEM"
    assert d.call("madvise", at, 1, advice) == 0  # a whole page
    assert d.call("madvise", at + 1, PAGE, advice) == "EINVAL"
    assert d.call("madvise", at, 2**64 - 1, advice) == "EINVAL"
    assert d.call("madvise", at, 0, advice) == 0


def test_what_is_refused(d: Direct) -> None:
    plain, shared, own = ordinary(d, 2), ordinary(d, 2, SHARED), shadow(d, 2)
    for advice in (MADV_FREE, MADV_WIPEONFORK):
        assert d.call("madvise", shared, PAGE, advice) == "EINVAL"
    for at in (plain, own):
        assert d.call("madvise", at, 2 * PAGE, MADV_COLLAPSE) == "EINVAL"  # no huge page fits
    assert d.call("madvise", own, PAGE, MADV_POPULATE_WRITE) == "EINVAL"
    assert d.call("madvise", plain, PAGE, MADV_POPULATE_WRITE) == 0
    assert d.mm.space.resident(plain, 2 * PAGE) == 1
    assert d.call("mprotect", plain, PAGE, 1) == 0
    assert d.call("madvise", plain, PAGE, MADV_POPULATE_WRITE) == "EINVAL"
    assert d.call("mprotect", plain, PAGE, 0) == 0
    assert d.call("madvise", plain, PAGE, MADV_POPULATE_READ) == "EINVAL"
    assert d.call("madvise", plain, PAGE, 26) == "EINVAL"


def test_flags_split_and_merge_areas(d: Direct) -> None:
    at = ordinary(d, 3)
    count = len(d.mm.vmas)
    assert d.call("madvise", at + PAGE, PAGE, MADV_DONTFORK) == 0
    assert len(d.mm.vmas) == count + 2
    assert d.call("madvise", at, 3 * PAGE, MADV_RANDOM) == 0
    shown = [vm_flags(d, at + i * PAGE) for i in range(3)]
    assert shown == ["mr mw me rr ac", "mr mw me rr dc ac", "mr mw me rr ac"]
    assert d.call("madvise", at, 3 * PAGE, MADV_NORMAL) == 0
    assert d.call("madvise", at + PAGE, PAGE, MADV_DOFORK) == 0
    assert len(d.mm.vmas) == count
    own = shadow(d, 1)
    for advice in (MADV_WIPEONFORK, MADV_DONTDUMP, MADV_NOHUGEPAGE):
        assert d.call("madvise", own, PAGE, advice) == 0
    assert vm_flags(d, own) == "mr mw me ac wf dd nh ss"


def test_a_child_has_what_advice_left_it(d: Direct) -> None:
    kept, gone, wiped = (ordinary(d, 1, prot=3) for _ in range(3))
    stack = shadow(d, 1)
    for at in (kept, gone, wiped):
        assert d.mm.space.write(at, b"x")
    for at, advice in {gone: MADV_DONTFORK, wiped: MADV_WIPEONFORK, stack: MADV_DONTFORK}.items():
        assert d.call("madvise", at, PAGE, advice) == 0
    child = dup_mm(d.k, d.mm)
    assert [child.space.read(at, 1) for at in (kept, gone, wiped, stack)] == [
        b"x",
        None,
        b"\0",
        None,
    ]
    assert child.vmas.find(gone) is child.vmas.find(stack) is None
    assert d.mm.space.read(gone, 1) == b"x"


def test_guards(d: Direct) -> None:
    at = ordinary(d, 3)
    assert d.mm.space.write(at + PAGE, b"x")
    assert d.call("madvise", at + PAGE, PAGE, MADV_GUARD_INSTALL) == 0

    def guarded(space: Any = None) -> list[int]:
        space = space or d.mm.space
        return [i for i in range(3) if space.read(at + i * PAGE, 1) is None]

    assert guarded() == [1]
    assert d.call("write", 1, at, 3 * PAGE) == PAGE
    for advice in (MADV_DONTNEED, MADV_FREE):
        assert d.call("madvise", at, 3 * PAGE, advice) == 0
        assert guarded() == [1]
    assert d.call("madvise", at, 3 * PAGE, MADV_POPULATE_WRITE) == "EFAULT"
    assert d.call("mprotect", at, 3 * PAGE, 1) == 0
    assert d.call("mprotect", at, 3 * PAGE, 3) == 0
    assert guarded() == [1]
    assert guarded(dup_mm(d.k, d.mm).space) == [1]
    assert d.call("madvise", at, 3 * PAGE, MADV_WIPEONFORK) == 0
    assert guarded(dup_mm(d.k, d.mm).space) == []
    assert d.call("madvise", at, 3 * PAGE, MADV_GUARD_REMOVE) == 0
    assert guarded() == []
    assert d.mm.space.read(at + PAGE, 1) == b"\0"


@pytest.mark.parametrize(
    ("access", "cause"), [("ld s1, 0(s0)", 13), ("sd s1, 0(s0)", 15), ("csrw_ssp s0\nsspush", 15)]
)
def test_an_access_to_a_guard(access: str, cause: int) -> None:
    """mm_fault_error: VM_FAULT_SIGSEGV is SEGV_MAPERR; a push stores below ssp."""
    result = run(f"""
        enable
        sys 453, 0, 8192, 0
        mv s0, a0
        li a1, 8192
        li a2, {MADV_GUARD_INSTALL}
        sys 233
        li s2, 4096
        add s0, s0, s2
        {access}
    """)
    [fault] = result.rows("faults")
    assert (fault["cause"], fault["signo"], fault["code"]) == (cause, 11, 1)


@pytest.mark.parametrize(
    ("prot", "answer"),
    [
        (PROT_GROWSDOWN, "EINVAL"),  # no area that grows down
        (PROT_GROWSUP, "EINVAL"),
        (PROT_GROWSDOWN | PROT_GROWSUP, "EINVAL"),
    ],
)
def test_protections_of_areas_that_do_not_grow(d: Direct, prot: int, answer: str) -> None:
    assert d.call("mprotect", ordinary(d, 1), PAGE, 1 | prot) == answer


def test_protection_of_a_whole_stack(d: Direct) -> None:
    stack = next(v for v in d.mm.vmas if v.grows_down)
    assert d.call("mprotect", stack.end - PAGE, PAGE, 7 | PROT_GROWSDOWN) == 0
    found = d.mm.vmas.find(stack.start)
    assert found is not None
    assert (found.start, found.end, found.prot) == (stack.start, stack.end, 7)
    assert d.call("mprotect", stack.end, PAGE, 1 | PROT_GROWSDOWN) == "ENOMEM"


def test_madvise_of_ranges(d: Direct) -> None:
    assert d.call("mmap", BASE, 6 * PAGE, 3, PRIVATE | MAP_FIXED, -1, 0) == BASE
    assert d.mm.space.write(BASE, b"x" * 6 * PAGE)
    me = d.call("pidfd_open", d.t.pid, 0)
    ranges = struct.pack("<6Q", BASE, PAGE, BASE + 2 * PAGE, 2 * PAGE, BASE + 5 * PAGE, PAGE)
    assert d.call("process_madvise", me, ranges, 2, 4, 0) == 3 * PAGE
    held = [d.get(BASE + i * PAGE, 1) for i in range(6)]
    assert held == [b"\0", b"x", b"\0", b"\0", b"x", b"x"]
    assert d.call("process_madvise", me, ranges, 2, 4, 1) == "EINVAL"
    assert d.call("process_madvise", me, ranges, 2, 99, 0) == "EINVAL"
    assert d.call("process_madvise", me, ranges, 2, MADV_DONTFORK, 0) == "EINVAL"
    assert [w for w in d.k.warnings if "no advice about forks" in w]
    assert d.call("process_madvise", 1, ranges, 2, 4, 0) == "EBADF"
    assert d.call("mlock", BASE + 2 * PAGE, PAGE) == 0
    assert d.call("process_madvise", me, ranges, 3, 4, 0) == PAGE
    assert d.call("process_madvise", me, ranges[16:], 1, 4, 0) == "EINVAL"


def test_remove_punches_a_hole(d: Direct) -> None:
    fd = d.open("/tmp/x", 0o102)
    assert d.write(fd, b"x" * 3 * PAGE) == 3 * PAGE
    at = int(d.call("mmap", 0, 3 * PAGE, 3, MAP_SHARED, fd, 0))
    assert d.call("madvise", at + PAGE, PAGE, MADV_REMOVE) == 0
    assert d.get(at + PAGE, PAGE) == bytes(PAGE)
    room = d.room(PAGE)
    assert d.call("pread64", fd, room, PAGE, PAGE) == PAGE
    assert d.get(room, PAGE) == bytes(PAGE)
    private = int(d.call("mmap", 0, PAGE, 3, MAP_PRIVATE, fd, 0))
    assert d.call("madvise", private, PAGE, MADV_REMOVE) == "EACCES"
    assert d.call("madvise", ordinary(d, 1), PAGE, MADV_REMOVE) == "EINVAL"
    child = dup_mm(d.k, d.mm)
    assert child.space.read(at + PAGE, 1) == b"\0"


PLACE, COUNT = st.integers(0, 11), st.integers(1, 5)
STEPS = st.lists(
    st.tuples(st.sampled_from(["map", "unmap", "guard", "unguard", "dontneed"]), PLACE, COUNT)
    | st.tuples(st.just("move"), PLACE, COUNT, PLACE),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_guards_against_a_model_of_pages(steps: list[Any]) -> None:
    """Each page is unmapped, open or guarded; a guard goes where its page goes."""
    d, model = Direct(), dict[int, bool]()
    for op, place, count, *more in steps:
        at, size, pages = BASE + place * PAGE, count * PAGE, range(place, place + count)
        match op:
            case "map":
                assert d.call("mmap", at, size, 3, PRIVATE | MAP_FIXED, -1, 0) == at
                model |= dict.fromkeys(pages, False)
            case "unmap":
                assert d.call("munmap", at, size) == 0
                model = {page: g for page, g in model.items() if page not in pages}
            case "guard" | "unguard" | "dontneed":
                advice = {"guard": 102, "unguard": 103, "dontneed": MADV_DONTNEED}[op]
                holes = any(page not in model for page in pages)
                assert d.call("madvise", at, size, advice) == ("ENOMEM" if holes else 0)
                if op != "dontneed":
                    model |= {page: op == "guard" for page in pages if page in model}
            case "move":
                flags, to = MREMAP_MAYMOVE | MREMAP_FIXED, more[0]
                if d.call("mremap", at, size, size, flags, BASE + to * PAGE) == BASE + to * PAGE:
                    moved = {to + page - place: model[page] for page in pages if page in model}
                    model = {page: g for page, g in model.items() if page not in pages} | moved
        found = {
            page: d.mm.space.read(BASE + page * PAGE, 1) is None
            for page in range(20)
            if d.mm.vmas.find(BASE + page * PAGE)
        }
        assert found == model
