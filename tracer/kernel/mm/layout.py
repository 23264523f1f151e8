"""The layout of an address space: pages, and the limits of addresses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from shstk.schemas.uapi import PAGE, RLIM_INFINITY

TASK_SIZE: Final = 1 << 56  # Sv57: the limit of explicit addresses
WINDOW: Final = 1 << 47  # the limit of addresses that the kernel chooses, as on Sv48
STACK_TOP: Final = WINDOW
MIN_ADDR: Final = PAGE  # vm.mmap_min_addr
STACK_GUARD_GAP: Final = 256 * PAGE  # kept below a stack that grows


def page_down(value: int) -> int:
    return value & -PAGE


def page_up(value: int) -> int:
    return (value + PAGE - 1) & -PAGE


def runs(pages: Iterable[int]) -> list[tuple[int, int]]:
    """Ascending addresses of pages as runs: (first, bytes)."""
    found: list[tuple[int, int]] = []
    for page in pages:
        if found and sum(found[-1]) == page:
            found[-1] = (found[-1][0], found[-1][1] + PAGE)
        else:
            found.append((page, PAGE))
    return found


def mmap_base(stack_limit: int) -> int:
    """Leaves room for a stack of RLIMIT_STACK (mmap_base of mm/util.c, without randomisation)."""
    gap = min(stack_limit + STACK_GUARD_GAP, RLIM_INFINITY)
    return page_up(STACK_TOP - min(max(gap, 128 << 20), WINDOW // 6 * 5))
