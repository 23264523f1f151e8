"""madvise(2) and process_madvise(2): advice, checked and applied area by area (mm/madvise.c)."""

from __future__ import annotations

from contextlib import nullcontext, suppress
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
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MADV_WIPEONFORK,
    PAGE,
    PROT_WRITE,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.regular import punch_hole
from shstk.tracer.kernel.fs.transfer import get_iov
from shstk.tracer.kernel.mm.layout import page_up
from shstk.tracer.kernel.process import pidfd, ptrace

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.mm import Mm
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
_KNOWN: Final = _FLAGS.keys() | _NOTHING | _POPULATE | _DISCARD | _GUARD | {MADV_REMOVE}
_LOSING: Final = _DISCARD | {  # is_discard
    *(MADV_FREE, MADV_REMOVE, MADV_DONTFORK, MADV_WIPEONFORK, MADV_GUARD_INSTALL)
}
_NOT_LOCKED: Final = frozenset(
    (MADV_DONTNEED, MADV_FREE, MADV_REMOVE, MADV_COLD, MADV_PAGEOUT, MADV_GUARD_INSTALL)
)
_NOT_SPECIAL: Final = frozenset((MADV_DOFORK, MADV_DODUMP)) | _GUARD
_ABOUT_FORKS: Final = frozenset((MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK))
_REMOTE: Final = frozenset((MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_COLLAPSE))

_HUGE: Final = 2 << 20


def sys_madvise(k: Kernel, t: Task, a: Args) -> int:
    mm = t.mm
    assert mm is not None
    start, length, advice = mm.untagged(a[0]), page_up(a[1]), a[2] & 0xFFFF_FFFF
    if advice not in _KNOWN or start % PAGE or start + length >= 1 << 64:
        raise Errno("EINVAL")
    if length:
        _advise(k, mm, start, start + length, advice)
    return 0


def sys_process_madvise(k: Kernel, t: Task, a: Args) -> int:
    """The bytes that were advised; an error only if there are none. Errno also EPERM, ESRCH."""
    advice = a[3] & 0xFFFF_FFFF
    if a[4] & 0xFFFF_FFFF:
        raise Errno("EINVAL")
    ranges = get_iov(k, t, a[1], a[2])
    target = pidfd.process_of(k, t, a[0])
    if advice not in _KNOWN:
        raise Errno("EINVAL")
    if not ptrace.may_access(t, target):
        raise Errno("EPERM")
    mm, done = target.mm, 0
    if mm is None:
        raise Errno("ESRCH")
    if mm is not t.mm:
        raise Errno("EPERM" if advice in _REMOTE else "EINVAL")  # takes CAP_SYS_NICE
    if advice in _ABOUT_FORKS:  # a run has no row that would say it
        k.limit("process_madvise", "no advice about forks")
        raise Errno("EINVAL")
    for start, length in ranges:
        try:
            sys_madvise(k, target, (start, length, advice, 0, 0, 0))
        except Errno:
            if not done:
                raise
            break
        done += length
    return done


def _advise(k: Kernel, mm: Mm, start: int, end: int, advice: int) -> None:
    """An area that refuses ends the walk; a hole does not, and is reported after it."""
    if advice in _POPULATE:
        mm.populate(start, end, advice == MADV_POPULATE_WRITE)
        return
    stop, refused = end, None
    for vma in mm.vmas.touching(start, end):
        if (errno := _refusal(vma, advice)) is not None:
            stop, refused = max(vma.start, start), Errno(errno)
            break
    if stop > start:
        _apply(k, mm, start, stop, advice, final=refused is None)
    if refused is not None and advice in _DISCARD:
        mm.discard(k, stop, end - stop, advice, refused)
    if refused is not None:
        raise refused
    if not mm.vmas.covers(start, end):
        raise Errno("ENOMEM")


def _refusal(vma: Vma, advice: int) -> str | None:
    """madvise_vma_behavior: the errno, if the area takes no such advice."""
    if "sl" in vma.flags and advice in _LOSING and vma.file is None and not vma.prot & PROT_WRITE:
        return "EPERM"
    locked, special = "lo" in vma.flags, "de" in vma.flags
    if (locked and advice in _NOT_LOCKED) or (special and advice in _NOT_SPECIAL):
        return "EINVAL"
    if advice in (MADV_WIPEONFORK, MADV_FREE) and vma.file is not None:
        return "EINVAL"
    if advice == MADV_REMOVE:
        if vma.file is None:
            return "EINVAL"
        return None if vma.shared and vma.file.writable else "EACCES"
    if advice == MADV_COLLAPSE:
        first = -(-vma.start // _HUGE) * _HUGE
        if vma.file is not None or first + _HUGE > vma.end:
            return "EINVAL"  # no huge page has a place in it
    return None


def _apply(k: Kernel, mm: Mm, start: int, end: int, advice: int, final: bool) -> None:
    """final: a hole may be reported."""
    if advice in _DISCARD:
        with nullcontext() if final else suppress(Errno):
            mm.discard(k, start, end - start, advice)
    elif advice == MADV_GUARD_INSTALL:
        mm.install_guards(k, start, end - start)
    elif advice == MADV_GUARD_REMOVE:
        mm.remove_guards(k, start, end - start)
    for vma in mm.vmas.touching(start, end):
        low, high = max(vma.start, start), min(vma.end, end)
        if advice in _FLAGS:
            mm.set_flags(low, high, *_FLAGS[advice])
        elif advice == MADV_REMOVE and vma.file is not None:
            mm.discard(k, low, high - low, advice)
            punch_hole(k, vma.file.inode, vma.offset_at(low), high - low)


CALLS: Final = (
    Call("madvise", sys_madvise, why="no HWPOISON and SOFT_OFFLINE, as without MEMORY_FAILURE"),
    Call("process_madvise", sys_process_madvise, why="no advice about forks"),
)
