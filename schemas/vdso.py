"""The vdso: one page, where each of its functions lies."""

from __future__ import annotations

from typing import Final

RT_SIGRETURN: Final = "__vdso_rt_sigreturn"
HWPROBE: Final = "__vdso_riscv_hwprobe"

# name -> offset in the page, bytes
FUNCTIONS: Final[dict[str, tuple[int, int]]] = {
    RT_SIGRETURN: (0x800, 8),
    HWPROBE: (0x810, 104),
}


def function_at(offset: int) -> tuple[str, int] | None:
    """The function that an offset in the page belongs to, and where it begins. In runs of before
    the page was an ELF image, it began with rt_sigreturn."""
    for name, (start, size) in FUNCTIONS.items():
        if start <= offset < start + size:
            return name, start
    return (RT_SIGRETURN, 0) if offset < FUNCTIONS[RT_SIGRETURN][1] else None
