"""Address spaces: placement, guards, splits, limits, and a row for every operation."""

from __future__ import annotations

import pytest
from guest_run import Result, run

from shstk.tracer.kernel.mm.vma import Vma
from shstk.tracer.kernel.mm.vmalist import VmaList

PAGE = 4096
BASE = 0x7FFFF8000000  # 128 MiB are kept for the stack
EPERM, ENOMEM, EFAULT, EEXIST, EINVAL = -1, -12, -14, -17, -22
ANON = 0x22
U64 = 2**64


def mapped(*calls: str, **options: object) -> Result:
    text = "\n".join((*calls, "sys 94, 0", "args: .dword 0, -1"))
    return run(text, **options)  # type: ignore[arg-type]


def returned(result: Result) -> list[int]:
    """Return values of all calls but the last, exit_group."""
    return [row["ret"] for row in result.rows("syscalls")][:-1]


def mmap(hint: int, length: int, prot: int = 3, flags: int = ANON) -> str:
    return f"sys 222, {hint}, {length}, {prot}, {flags}, -1, 0"


def shadow(size: int, addr: int = 0) -> str:
    return f"sys 453, {addr}, {size}, 0"


def test_kernel_chosen_places_go_down_from_the_base() -> None:
    a, b = returned(mapped(mmap(0, PAGE), mmap(0, 3 * PAGE)))
    assert (a, b) == (BASE - 2 * PAGE, BASE - 5 * PAGE), "the vdso is mapped first"


def test_a_free_page_stays_below_every_shadow_stack() -> None:
    a, b, plain, low = returned(mapped(shadow(PAGE), shadow(PAGE), mmap(0, PAGE), shadow(2 * PAGE)))
    assert a - b == 2 * PAGE
    assert plain == b - 2 * PAGE
    assert low == plain - 2 * PAGE, "no gap is needed above a shadow stack"


def test_a_freed_place_is_used_again() -> None:
    a, *_, c = returned(
        mapped(
            shadow(4 * PAGE),
            shadow(PAGE),
            f"sys 215, {BASE - 5 * PAGE}, {4 * PAGE}",
            shadow(4 * PAGE),
        )
    )
    assert a == c == BASE - 5 * PAGE


@pytest.mark.parametrize(
    ("call", "ret"),
    [
        (mmap(0, 0), EINVAL),
        (mmap(0, PAGE, flags=0x20), EINVAL),
        (mmap(0x1001, PAGE, flags=0x32), EINVAL),
        (mmap(0, PAGE, flags=0x32), EPERM),
        (mmap(0x10000, PAGE, flags=0x100022), EEXIST),
        (mmap(-PAGE, PAGE, flags=0x32), ENOMEM),
        (mmap(0, 1 << 60), ENOMEM),
        (mmap(0x5000_0123, PAGE), 0x5000_0000),
        (mmap(0x7FFFF_FFFF_0000, PAGE, flags=0x32), 0x7FFFF_FFFF_0000),
        (mmap(0x10000, PAGE), BASE - 2 * PAGE),  # a hint that is in use
        ("sys 215, 0x1001, 4096", EINVAL),
        ("sys 215, 0x1000, 0", EINVAL),
        ("sys 215, 0x1000, 4096", 0),
        ("sys 226, 0x1000, 4096, 1", ENOMEM),
        ("sys 226, 0x10000, 4096, 64", EINVAL),
        ("sys 226, 0x10000, 0, 1", 0),
        ("sys 216, 0x40000000, 4096, 8192, 1", EFAULT),
        ("sys 216, 0x10000, 4096, 8192, 2", EINVAL),
        ("sys 216, 0x10000, 4096, 4096, 3, 0", EPERM),
        ("sys 233, 0x10000, 4096, 4", 0),
        ("sys 233, 0x1000, 4096, 4", ENOMEM),
        ("sys 233, 0x10000, 4096, 99", EINVAL),
        ("sys 227, 0x1000, 4096, 4", ENOMEM),
    ],
)
def test_answers(call: str, ret: int) -> None:
    assert returned(mapped(call)) == [ret]


def test_every_operation_is_a_row_failed_ones_too() -> None:
    result = mapped(mmap(0, 0), mmap(0, 5 * PAGE), f"sys 226, {BASE - 5 * PAGE}, {PAGE}, 1")
    boot = result.rows("mappings")[:-3]
    bad, good, protect = result.rows("mappings")[-3:]
    calls = [row["seq"] for row in result.rows("syscalls")]
    assert [row["during"] for row in (bad, good, protect)] == calls[:3]
    assert (bad["ret"], bad["start"], bad["length"]) == (EINVAL, None, 0)
    assert (good["ret"], good["prot"], good["flags"]) == (BASE - 6 * PAGE, 3, ANON)
    assert (protect["op"], protect["start"], protect["prot"]) == ("protect", BASE - 5 * PAGE, 1)
    assert {row["during"] for row in boot} == {1}, (
        "the loader's operations belong to the creation of the first task"
    )


def test_mprotect_leaves_a_shadow_stack_one() -> None:
    result = mapped(
        shadow(PAGE),
        f"sys 226, {BASE - 2 * PAGE}, {PAGE}, 3",
        f"li t0, {BASE - 2 * PAGE}\nsd t0, 0(t0)",
    )
    assert result.status == 11
    (fault,) = result.rows("faults")
    assert fault["cause"] == 7


def test_mremap_grows_moves_and_shrinks() -> None:
    result = mapped(
        mmap(0x40000000, PAGE, flags=0x32),
        "li t0, 0x40000000\nsd t0, 8(t0)",
        f"sys 216, 0x40000000, {PAGE}, {2 * PAGE}, 0",  # in place
        mmap(0x40002000, PAGE, flags=0x32),
        f"sys 216, 0x40000000, {2 * PAGE}, {3 * PAGE}, 0",  # no room
        f"sys 216, 0x40000000, {2 * PAGE}, {3 * PAGE}, 1",  # moves
        "ld t1, 8(a0)\nreport t1",
        f"sys 216, {BASE - 4 * PAGE}, {3 * PAGE}, {PAGE}, 0",  # shrinks
    )
    rets = [r["ret"] for r in result.rows("syscalls") if r["name"] == "mremap"]
    assert rets == [0x40000000, ENOMEM, BASE - 4 * PAGE, BASE - 4 * PAGE]
    assert result.words == [0x40000000]
    moved = [row for row in result.rows("mappings") if row["op"] == "remap"][2]
    assert (moved["old_start"], moved["start"], moved["length"]) == (
        0x40000000,
        BASE - 4 * PAGE,
        3 * PAGE,
    )


def test_a_shadow_stack_moves_with_its_guard() -> None:
    result = mapped(shadow(PAGE), f"sys 216, {BASE - 2 * PAGE}, {PAGE}, {2 * PAGE}, 1")
    moved = result.rows("mappings")[-1]
    assert (moved["shadow_stack"], moved["start"]) == (True, BASE - 5 * PAGE), "below its own guard"


def test_dontneed_is_zero_again() -> None:
    result = mapped(
        mmap(0x40000000, PAGE, flags=0x32),
        "li t0, 0x40000000\nsd t0, 8(t0)",
        f"sys 233, 0x40000000, {PAGE}, 4",
        "li t0, 0x40000000\nld t1, 8(t0)\nreport t1",
    )
    assert result.words == [0]


def test_brk() -> None:
    result = mapped(
        "sys 214, 0",
        "mv s0, a0\nli t0, 0x3000\nadd a0, s0, t0\nli a7, 214\necall",
        "addi a0, s0, -1\necall",
        "addi a0, s0, 8\necall",
    )
    start, grown, low, shrunk = returned(result)
    assert start % PAGE == 0
    assert (grown, low, shrunk) == (start + 0x3000, start + 0x3000, start + 8)


def test_brk_does_not_shrink_over_what_is_unmapped() -> None:
    """do_brk: an area must lie there, the heap's or another (seen on 6.18)."""
    result = mapped(
        "sys 214, 0",
        "mv s0, a0\nli t0, 0x3000\nadd a0, s0, t0\nli a7, 214\necall",
        "mv a0, s0\nli a1, 0x3000\nli a7, 215\necall",
        "mv a0, s0\nli a7, 214\necall",
    )
    start, grown, unmapped, kept = returned(result)
    assert (grown, unmapped, kept) == (start + 0x3000, 0, start + 0x3000)


def test_rlimit_as() -> None:
    result = mapped(mmap(0, 16 << 20), shadow(16 << 20), mmap(0, PAGE), rlimits={"AS": 8 << 20})
    assert returned(result) == [ENOMEM, ENOMEM, BASE - 2 * PAGE]


def test_memory_bounds_one_area() -> None:
    """The overcommit heuristic checks each area alone, and only writable ones."""
    big = 80 << 20
    result = mapped(
        mmap(0, big),
        mmap(0, big, prot=1),
        mmap(0, 40 << 20),
        mmap(0, 40 << 20),
        shadow(big),
        memory=64 << 20,
    )
    first, read_only, one, two, stack = returned(result)
    assert (first, stack) == (ENOMEM, ENOMEM)
    assert min(read_only, one, two) > 0


def test_the_stack_grows_to_its_limit() -> None:
    touch = "li t0, {0}\nsub t1, sp, t0\nsd t0, 0(t1)\nreport t0"
    result = mapped(touch.format(1 << 20), touch.format(7 << 20), touch.format(9 << 20))
    assert result.words == [1 << 20, 7 << 20]
    assert result.status == 11


@pytest.mark.parametrize(("prot", "status"), [(0, 0), (1, 11)])
def test_the_stack_keeps_its_gap_to_accessible_areas_only(prot: int, status: int) -> None:
    """expand_downwards(): an area that ends 64 pages below where the stack grows to."""
    touched = 0x7FFF_FFEF_F000
    below = mmap(touched - 65 * PAGE, PAGE, prot, flags=0x32)
    assert mapped(below, f"li t0, {touched}\nsd zero, 0(t0)").status == status


def test_the_kernel_grows_the_stack_too() -> None:
    result = mapped("li t0, 0x200000\nsub a1, sp, t0\nli a0, 3\nli a7, 163\necall")
    assert returned(result) == [0]


# The list of areas alone.


def test_areas_split_and_merge() -> None:
    vmas = VmaList()
    vmas.add(Vma(0, 10, 3, shadow_stack=True))
    vmas.add(Vma(10, 20, 3, shadow_stack=True))
    assert [(v.start, v.end) for v in vmas] == [(0, 20)], "adjacent areas are merged"
    vmas.remove(5, 15)
    assert [(v.start, v.end) for v in vmas] == [(0, 5), (15, 20)]
    vmas.add(Vma(5, 15, 3))
    assert len(list(vmas)) == 3, "an ordinary area is not merged with a shadow stack"


def test_highest_gap_keeps_guards() -> None:
    p = PAGE
    vmas = VmaList([Vma(10 * p, 12 * p, 3, shadow_stack=True)])
    assert vmas.highest_gap(p, 0, p, 13 * p) == 12 * p
    assert vmas.highest_gap(2 * p, 0, p, 13 * p) == 7 * p, (
        "the page below a shadow stack stays free"
    )
    assert vmas.highest_gap(8 * p, 0, p, 13 * p) == p
    assert vmas.highest_gap(8 * p, p, p, 13 * p) is None
