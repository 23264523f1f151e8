"""madvise(2): advice about areas and pages, checked and applied area by area (mm/madvise.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    MADV_COLD,
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
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    PAGE,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm.layout import page_up

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.vma import Vma
    from shstk.tracer.kernel.task import Task

# The flags of an area that advice sets and clears, by their names in smaps.
_FLAGS: Final[dict[int, tuple[frozenset[str], frozenset[str]]]] = {
    advice: (frozenset(sets.split()), frozenset(clears.split()))
    for advice, sets, clears in (
        (MADV_NORMAL, "", "sr rr"),
        (MADV_RANDOM, "rr", "sr"),
        (MADV_SEQUENTIAL, "sr", "rr"),
        (MADV_DONTFORK, "dc", ""),
        (MADV_DOFORK, "", "dc"),
        (MADV_WIPEONFORK, "wf", ""),
        (MADV_KEEPONFORK, "", "wf"),
        (MADV_DONTDUMP, "dd", ""),
        (MADV_DODUMP, "", "dd"),
        (MADV_HUGEPAGE, "hg", "nh"),
        (MADV_NOHUGEPAGE, "nh", "hg"),
        (MADV_MERGEABLE, "mg", ""),
        (MADV_UNMERGEABLE, "", "mg"),
    )
}
# Nothing is read ahead, reclaimed or merged into huge pages here; freed contents may stay.
_NOTHING: Final = frozenset((MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT, MADV_FREE, MADV_COLLAPSE))
_POPULATE: Final = frozenset((MADV_POPULATE_READ, MADV_POPULATE_WRITE))
_DISCARD: Final = frozenset((MADV_DONTNEED, MADV_DONTNEED_LOCKED))
_GUARD: Final = frozenset((MADV_GUARD_INSTALL, MADV_GUARD_REMOVE))
_KNOWN: Final = _FLAGS.keys() | _NOTHING | _POPULATE | _DISCARD | _GUARD

_HUGE: Final = 2 << 20


def sys_madvise(k: Kernel, t: Task, a: Args) -> int:
    """An area that refuses ends the walk; a hole does not, and is reported after it."""
    mm = t.mm
    assert mm is not None
    start, length, advice = mm.untagged(a[0]), page_up(a[1]), a[2] & 0xFFFF_FFFF
    end = start + length
    if advice not in _KNOWN or start % PAGE or end >= 1 << 64:
        raise Errno("EINVAL")
    if not length:
        return 0
    if advice in _POPULATE:
        mm.populate(start, end, advice == MADV_POPULATE_WRITE)
        return 0
    if advice in _DISCARD:
        mm.discard(k, start, length, advice)
    elif advice == MADV_GUARD_INSTALL:
        mm.install_guards(k, start, length)
    elif advice == MADV_GUARD_REMOVE:
        mm.remove_guards(k, start, length)
    else:
        for vma in mm.vmas.touching(start, end):
            _check(vma, advice)
            if advice in _FLAGS:
                mm.advise(max(vma.start, start), min(vma.end, end), *_FLAGS[advice])
    if not mm.vmas.covers(start, end):
        raise Errno("ENOMEM")
    return 0


def _check(vma: Vma, advice: int) -> None:
    """madvise_vma_behavior. Errno: EINVAL."""
    if advice in (MADV_WIPEONFORK, MADV_FREE) and vma.file is not None:
        raise Errno("EINVAL")
    if advice == MADV_COLLAPSE:
        first = -(-vma.start // _HUGE) * _HUGE
        if vma.file is not None or first + _HUGE > vma.end:
            raise Errno("EINVAL")  # no huge page has a place in it


CALLS: Final = (
    Call("madvise", sys_madvise, why="no MADV_REMOVE, HWPOISON and SOFT_OFFLINE: -EINVAL"),
)
