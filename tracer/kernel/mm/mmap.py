"""The system calls for memory: they check their arguments and call tracer/kernel/mm/mm.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DONTDUMP,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_HUGEPAGE,
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
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    PAGE,
    PROT_EXEC,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import files
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.mm import TASK_SIZE, Mm, page_up
from shstk.tracer.kernel.mm.pagecache import SPAN
from shstk.tracer.kernel.process.modules import MODULES

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.mm.vma import MappedFile
    from shstk.tracer.kernel.task import Task

_PROT_KNOWN: Final = 0xF | 0x0100_0000 | 0x0200_0000  # with PROT_SEM, GROWSDOWN, GROWSUP
_U64: Final = 2**64 - 1

# Advice without an effect: access patterns, huge pages, merging, dumps, reclaim. MADV_FREE is here
# because it may keep the contents.
_HARMLESS: Final = frozenset(
    (
        MADV_NORMAL,
        MADV_RANDOM,
        MADV_SEQUENTIAL,
        MADV_WILLNEED,
        MADV_FREE,
        MADV_MERGEABLE,
        MADV_UNMERGEABLE,
        MADV_HUGEPAGE,
        MADV_NOHUGEPAGE,
        MADV_DONTDUMP,
        MADV_DODUMP,
        MADV_COLD,
        MADV_PAGEOUT,
        MADV_POPULATE_READ,
        MADV_POPULATE_WRITE,
        MADV_COLLAPSE,
    )
)


def _mm(t: Task) -> Mm:
    assert t.mm is not None
    return t.mm


def sys_mmap(k: Kernel, t: Task, a: Args) -> int:
    hint, length, prot, flags, fd, offset = a
    if offset % PAGE:
        raise Errno("EINVAL")
    kind = flags & MAP_TYPE
    if kind not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE):
        raise Errno("EINVAL")
    file: MappedFile | None = None
    if not flags & MAP_ANONYMOUS:
        file = files.mappable(k, t, fd, prot, flags)
        if offset + length > SPAN:
            raise Errno("EOVERFLOW")
    hint = hint if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) else hint & -PAGE
    start = _mm(t).map(k, hint, length, prot, flags, file=file, offset=offset)
    if file is not None and prot & PROT_EXEC:
        MODULES.of(k).add_mapping(k, _mm(t), start, start + page_up(length), file, offset)
    return start


def sys_munmap(k: Kernel, t: Task, a: Args) -> int:
    _mm(t).unmap(k, _mm(t).untagged(a[0]), a[1])
    return 0


def sys_mprotect(k: Kernel, t: Task, a: Args) -> int:
    if a[2] & ~_PROT_KNOWN:
        raise Errno("EINVAL")
    _mm(t).protect(k, _mm(t).untagged(a[0]), a[1], a[2] & 7)
    return 0


def sys_mremap(k: Kernel, t: Task, a: Args) -> int:
    return _mm(t).remap(k, _mm(t).untagged(a[0]), a[1], a[2], a[3], a[4])


def sys_brk(k: Kernel, t: Task, a: Args) -> int:
    return _mm(t).set_brk(k, a[0])


def sys_madvise(k: Kernel, t: Task, a: Args) -> int:
    start, length, advice = _mm(t).untagged(a[0]), page_up(a[1]), a[2] & 0xFFFF_FFFF
    if advice != MADV_DONTNEED and advice not in _HARMLESS:
        raise Errno("EINVAL")
    if start % PAGE or start + length > TASK_SIZE:
        raise Errno("EINVAL")
    if not length:
        return 0
    if advice == MADV_DONTNEED:
        _mm(t).discard(k, start, length, advice)
    elif not _mm(t).vmas.covers(start, start + length):
        raise Errno("ENOMEM")
    return 0


def sys_mincore(k: Kernel, t: Task, a: Args) -> int:
    start, length, vector = _mm(t).untagged(a[0]), page_up(a[1]), a[2]
    if start % PAGE:
        raise Errno("EINVAL")
    if start + length > TASK_SIZE or not _mm(t).vmas.covers(start, start + length):
        raise Errno("ENOMEM")
    space = _mm(t).space
    pages = (space.resident(start + at, PAGE) for at in range(0, length, PAGE))
    usermem.put(k, t, vector, bytes(pages))
    return 0


def _mapped(k: Kernel, t: Task, a: Args) -> int:
    """msync, mlock and munlock only check that the range is mapped."""
    start, length = _mm(t).untagged(a[0]) & -PAGE, page_up(a[0] % PAGE + a[1])
    if length and (start + length > TASK_SIZE or not _mm(t).vmas.covers(start, start + length)):
        raise Errno("ENOMEM")
    return 0


def _nothing(k: Kernel, t: Task, a: Args) -> int:
    return 0


_LOCKING: Final = "nothing is ever swapped; RLIMIT_MEMLOCK is ignored"

CALLS = (
    Call("brk", sys_brk),
    Call("munmap", sys_munmap),
    Call("mremap", sys_mremap),
    Call("mmap", sys_mmap),
    Call("mprotect", sys_mprotect),
    Call("msync", _mapped, "simple", "stores reach the file at once"),
    Call("mlock", _mapped, "simple", _LOCKING),
    Call("munlock", _mapped, "simple", _LOCKING),
    Call("mlockall", _nothing, "simple", _LOCKING),
    Call("munlockall", _nothing, "simple", _LOCKING),
    Call("mincore", sys_mincore),
    Call("madvise", sys_madvise),
)
