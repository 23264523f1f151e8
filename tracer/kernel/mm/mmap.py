"""The system calls for memory: they check their arguments and call tracer/kernel/mm/mm.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    PAGE,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_READ,
    PROT_WRITE,
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

_PROT_SEM: Final = 8
_READ_IMPLIES_EXEC: Final = 0x40_0000
_PROT_KNOWN: Final = PROT_READ | PROT_WRITE | PROT_EXEC | _PROT_SEM
_U64: Final = 2**64 - 1


def _mm(t: Task) -> Mm:
    assert t.mm is not None
    return t.mm


def _implied(t: Task, prot: int) -> int:
    """READ_IMPLIES_EXEC of personality(2)."""
    reads = prot & PROT_READ and t.personality & _READ_IMPLIES_EXEC
    return prot | PROT_EXEC if reads else prot


def sys_mmap(k: Kernel, t: Task, a: Args) -> int:
    hint, length, prot, flags, fd, offset = a
    prot = _implied(t, prot)
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
    start, length, prot = _mm(t).untagged(a[0]), a[1], a[2]
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~grows
    if prot & ~_PROT_KNOWN or grows == PROT_GROWSDOWN | PROT_GROWSUP:
        raise Errno("EINVAL")
    if grows and length and not start % PAGE:
        start, length = _growing(_mm(t), start, page_up(length), grows)
    _mm(t).protect(k, start, length, _implied(t, prot) & 7)
    return 0


def _growing(mm: Mm, start: int, length: int, grows: int) -> tuple[int, int]:
    """From the lowest address of a stack that grows down. Errno: ENOMEM, EINVAL."""
    vma = mm.vmas.find(start) or mm.vmas.after(start)
    end = start + length
    if vma is None or vma.start >= end or (grows == PROT_GROWSUP and vma.start > start):
        raise Errno("ENOMEM")
    if grows == PROT_GROWSUP or not vma.grows_down:
        raise Errno("EINVAL")
    return vma.start, end - vma.start


def sys_mremap(k: Kernel, t: Task, a: Args) -> int:
    return _mm(t).remap(k, _mm(t).untagged(a[0]), a[1], a[2], a[3], a[4])


def sys_brk(k: Kernel, t: Task, a: Args) -> int:
    return _mm(t).set_brk(k, a[0])


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
)
