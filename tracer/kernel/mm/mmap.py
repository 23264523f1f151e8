"""The system calls for memory: they check their arguments and call tracer/kernel/mm/mm.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
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
from shstk.tracer.kernel.fs.inode import clean
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.layout import TASK_SIZE, page_up
from shstk.tracer.kernel.mm.mm import Mm
from shstk.tracer.kernel.process.modules import MODULES

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_PROT_SEM: Final = 8
_READ_IMPLIES_EXEC: Final = 0x40_0000
_PROT_KNOWN: Final = PROT_READ | PROT_WRITE | PROT_EXEC | _PROT_SEM
# LEGACY_MAP_MASK: also EXECUTABLE, NONBLOCK, HUGE_2MB, HUGE_1GB
_LEGACY_FLAGS: Final = 0x7FFFF & ~0x6CC | 31 << 26
_U64: Final = 2**64 - 1
_MINCORE_STEP: Final = PAGE * PAGE  # the pages whose answers fill a page
_FILE_MAX: Final = 2**63 - 1  # MAX_LFS_FILESIZE


def _mm(t: Task) -> Mm:
    assert t.mm is not None
    return t.mm


def _implied(t: Task, prot: int) -> int:
    """READ_IMPLIES_EXEC of personality(2)."""
    reads = prot & PROT_READ and t.personality & _READ_IMPLIES_EXEC
    return prot | PROT_EXEC if reads else prot


def sys_mmap(k: Kernel, t: Task, a: Args) -> int:
    """do_mmap() looks for a place before it looks at the kind of the mapping and the file's mode:
    what is wrong with those is told last."""
    hint, length, prot, flags, fd, offset = a
    prot = _implied(t, prot)
    if offset % PAGE:
        raise Errno("EINVAL")
    opened = None if flags & MAP_ANONYMOUS else t.files.get(fd)
    if flags & MAP_HUGETLB:
        raise Errno("EINVAL" if opened is not None else "ENOMEM")  # the pool of huge pages is empty
    file, refused = None, None
    try:
        _check_kind(flags)
        if opened is not None:
            if offset + length > _FILE_MAX:
                raise Errno("EOVERFLOW")
            file = files.mappable(k, opened, prot, flags)
    except Errno as error:
        refused = error
    hint = hint if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) else hint & -PAGE
    start = _mm(t).map(k, hint, length, prot, flags, file=file, offset=offset, refused=refused)
    _populate(_mm(t), start, page_up(length), flags)
    if file is not None and prot & PROT_EXEC:
        MODULES.of(k).add_mapping(k, _mm(t), start, start + page_up(length), file, offset)
    return start


def _populate(mm: Mm, start: int, length: int, flags: int) -> None:
    """What vm_mmap_pgoff() faults in."""
    populates = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE
    if populates or mm.locks or flags & MAP_LOCKED:
        mm.try_fault_in(start, start + length)


def _check_kind(flags: int) -> None:
    """The types of a mapping, and the flags that only MAP_SHARED_VALIDATE checks."""
    kind, anonymous = flags & MAP_TYPE, flags & MAP_ANONYMOUS
    if kind == MAP_SHARED_VALIDATE and not anonymous:
        if flags & ~_LEGACY_FLAGS:
            raise Errno("EOPNOTSUPP")
    elif kind not in (MAP_SHARED, MAP_PRIVATE):
        raise Errno("EINVAL")
    if flags & MAP_GROWSDOWN and kind == MAP_SHARED and anonymous:
        raise Errno("EINVAL")


def sys_munmap(k: Kernel, t: Task, a: Args) -> int:
    _mm(t).unmap(k, _mm(t).untagged(a[0]), a[1])
    return 0


def sys_mprotect(k: Kernel, t: Task, a: Args) -> int:
    start, length, prot = _mm(t).untagged(a[0]), a[1], a[2]
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~grows
    if grows == PROT_GROWSDOWN | PROT_GROWSUP or start % PAGE:
        raise Errno("EINVAL")
    if start + page_up(length) >= 1 << 64:
        raise Errno("ENOMEM")
    if length and prot & ~_PROT_KNOWN:
        raise Errno("EINVAL")  # arch_validate_prot(), after the range
    if grows and length:
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


def sys_brk(k: Kernel, t: Task, a: Args) -> int:
    return _mm(t).set_brk(k, a[0])


def sys_mincore(k: Kernel, t: Task, a: Args) -> int:
    start, length, vector = _mm(t).untagged(a[0]), page_up(a[1]), a[2]
    if start % PAGE:
        raise Errno("EINVAL")
    if start + length > TASK_SIZE or not _mm(t).vmas.covers(start, start + length):
        raise Errno("ENOMEM")
    for at in range(start, start + length, _MINCORE_STEP):
        pages = _mm(t).space.look(at, min(_MINCORE_STEP, start + length - at))
        usermem.put(k, t, vector + (at - start) // PAGE, bytes(map(bool, pages)))
    return 0


def sys_msync(k: Kernel, t: Task, a: Args) -> int:
    """Stores have reached the file. What isn't mapped is told after the flags and the alignment."""
    mm, flags = _mm(t), a[2] & 0xFFFF_FFFF
    start, end = mm.untagged(a[0]), mm.untagged(a[0]) + page_up(a[1])
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) or start % PAGE:
        raise Errno("EINVAL")
    if flags & MS_ASYNC and flags & MS_SYNC:
        raise Errno("EINVAL")
    if end >= 1 << 64:
        raise Errno("ENOMEM")
    for vma in mm.vmas.touching(start, end):
        if flags & MS_INVALIDATE and "lo" in vma.flags:
            raise Errno("EBUSY")
        if vma.shared and vma.file is not None:
            clean(vma.file.inode)
    if not mm.vmas.covers(start, end):
        raise Errno("ENOMEM")
    return 0


def sys_remap_file_pages(k: Kernel, t: Task, a: Args) -> int:
    """Since 4.0 a mapping of another part of the file, in the place of the old one."""
    mm, start, size = _mm(t), a[0] & -PAGE, a[1] & -PAGE
    if a[2] or not size or start + size > _U64 or a[3] + size // PAGE > _U64 >> 12:
        raise Errno("EINVAL")
    vma = mm.vmas.find(start)
    if vma is None or vma.file is None or not (vma.shared and vma.file.writable):
        raise Errno("EINVAL")
    here = mm.vmas.touching(start, start + size)
    same = all((v.file, v.prot, v.flags) == (vma.file, vma.prot, vma.flags) for v in here)
    if not same or not mm.vmas.covers(start, start + size):
        raise Errno("EINVAL")
    flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE | a[4] & MAP_NONBLOCK
    flags |= MAP_LOCKED if "lo" in vma.flags else 0
    mm.map(k, start, size, vma.prot, flags, file=vma.file, offset=a[3] * PAGE)
    _populate(mm, start, size, flags)
    return 0


def sys_mseal(k: Kernel, t: Task, a: Args) -> int:
    """Errno EINVAL, ENOMEM. Nothing is sealed if there is a hole."""
    mm, start = _mm(t), _mm(t).untagged(a[0])
    end = start + page_up(a[1])
    if a[2] or start % PAGE or end >= 1 << 64:
        raise Errno("EINVAL")
    if not mm.vmas.covers(start, end):
        raise Errno("ENOMEM")
    for vma in mm.vmas.touching(start, end):
        mm.set_flags(max(vma.start, start), min(vma.end, end), frozenset({"sl"}))
    return 0


CALLS = (
    Call("brk", sys_brk),
    Call("munmap", sys_munmap),
    Call("mmap", sys_mmap, why="no huge pages: MAP_HUGETLB is -ENOMEM; no MAP_SYNC, MAP_DROPPABLE"),
    Call("mprotect", sys_mprotect),
    Call("msync", sys_msync, "simple", "stores reach the file at once"),
    Call("mincore", sys_mincore),
    Call("remap_file_pages", sys_remap_file_pages),
    Call("mseal", sys_mseal),
)
