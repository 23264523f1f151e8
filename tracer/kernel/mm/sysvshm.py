"""System V shared memory: numbered segments that processes attach and detach."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    IPC_INFO,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_SHARED,
    PAGE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    SHM_EXEC,
    SHM_HUGETLB,
    SHM_INFO,
    SHM_LOCK,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_STAT,
    SHM_STAT_ANY,
    SHM_UNLOCK,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.ipc.ids import PERM_SIZE, Ids, Object, now
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.layout import page_up
from shstk.tracer.kernel.mm.mm import Mm
from shstk.tracer.kernel.mm.sharedmem import shmem_inode
from shstk.tracer.kernel.mm.vma import MappedFile, Vma
from shstk.tracer.kernel.state import Slot

if TYPE_CHECKING:
    from shstk.tracer.kernel.fs.inode import Regular
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

READ, READ_WRITE = 0o444, 0o666
_DEST: Final = 0o1000  # SHM_DEST in the mode: destroyed at the last detach
_LOCKED: Final = 0o2000  # SHM_LOCKED
SIZE_MAX: Final = 2**64 - 1 - (1 << 24)  # kernel.shmmax and, in pages, kernel.shmall
SEGMENTS_MAX: Final = 4096  # kernel.shmmni
# Of struct shmid64_ds, after the permissions: size, atime, dtime, ctime, cpid, lpid, attached.
_DS: Final = struct.Struct("<QqqqiiQ16x")
_LIMITS: Final = struct.Struct("<5Q32x")  # struct shminfo64: shmmax, shmmin, shmmni, shmseg, shmall
_USE: Final = struct.Struct("<i4x5Q")  # struct shm_info: used_ids, shm_tot, shm_rss, …


@dataclass(eq=False, kw_only=True)
class Segment(Object):
    """Removed by IPC_RMID, it has the key IPC_PRIVATE and lives until its last detach."""

    size: int
    inode: Regular
    file: MappedFile
    creator: int
    last: int = 0  # pid that attached or detached last
    attached_at: int = 0  # s since 1970
    detached_at: int = 0
    doomed: bool = False

    def areas(self, mm: Mm) -> list[Vma]:
        return [v for v in mm.vmas if v.file is not None and v.file.inode is self.inode]

    def users(self, k: Kernel) -> int:
        return sum(len(self.areas(mm)) for mm in k.mms.values())

    @property
    def pages(self) -> int:
        return page_up(self.size) // PAGE


class Segments:
    def __init__(self) -> None:
        self.segments: Ids[Segment] = Ids()


SEGMENTS: Final = Slot(Segments)


def segments_of(k: Kernel) -> Ids[Segment]:
    """Those that exist: the removed ones that no process has attached are freed now."""
    segments = SEGMENTS.of(k).segments
    for segment in segments.all:
        if segment.doomed and not segment.users(k):
            k.sandbox.charge(-segment.size)
            segments.remove(segment)
    return segments


def sys_shmget(k: Kernel, t: Task, a: Args) -> int:
    key, size, flags = a[0] & 0xFFFF_FFFF, a[1], a[2] & 0xFFFF_FFFF
    segments = segments_of(k)

    def suits(segment: Segment) -> None:
        if size > segment.size:
            raise Errno("EINVAL")

    def make(number: int) -> Segment:
        """newseg()."""
        if not 0 < size <= min(SIZE_MAX, 2**63 - 1):
            raise Errno("EINVAL")
        if flags & SHM_HUGETLB:
            raise Errno("ENOMEM")  # the pool of huge pages is empty
        if len(segments.by_number) >= SEGMENTS_MAX:
            raise Errno("ENOSPC")
        k.sandbox.charge(size)
        inode = shmem_inode(k, k.sandbox.new_ino(), flags & 0o777, page_up(size))
        file = MappedFile(f"/SYSV{key:08x} (deleted)", inode, writable=True)
        return Segment(
            number=number,
            key=key,
            mode=flags & 0o777,
            changed_at=now(k),
            size=size,
            inode=inode,
            file=file,
            creator=t.pid,
        )

    return segments.get(key, flags & 0o7777, suits, make)


def sys_shmat(k: Kernel, t: Task, a: Args) -> int:
    """do_shmat(): the address, the segment, its permissions, and the place."""
    addr, flags = a[1], a[2] & 0xFFFF_FFFF
    assert t.mm is not None
    if addr % PAGE:
        if not flags & SHM_RND:
            raise Errno("EINVAL")
        addr &= -PAGE
    if flags & SHM_REMAP and not addr:
        raise Errno("EINVAL")
    segment = segments_of(k).find(a[0])
    segment.permit(READ if flags & SHM_RDONLY else READ_WRITE)
    prot = PROT_READ if flags & SHM_RDONLY else PROT_READ | PROT_WRITE
    prot |= PROT_EXEC if flags & SHM_EXEC else 0
    how = MAP_SHARED
    if addr:
        how |= MAP_FIXED if flags & SHM_REMAP else MAP_FIXED_NOREPLACE
        if not flags & SHM_REMAP and t.mm.vmas.touching(addr, addr + segment.size):
            raise Errno("EINVAL")
    start = t.mm.map(k, addr, segment.size, prot, how, file=segment.file)
    if t.mm.locks:
        t.mm.try_fault_in(start, start + page_up(segment.size))
    segment.last, segment.attached_at = t.pid, now(k)
    return start


def sys_shmdt(k: Kernel, t: Task, a: Args) -> int:
    """ksys_shmdt(): unmap all that is left of one shmat. The first page need not be."""
    mm, addr = t.mm, a[0]
    assert mm is not None
    if addr % PAGE:
        raise Errno("EINVAL")
    found = ((area, segment) for segment in segments_of(k).all for area in segment.areas(mm))
    mine = [(v.start, s) for v, s in found if v.end > addr and v.start - v.offset == addr]
    if not mine:
        raise Errno("EINVAL")
    _, segment = min(mine, key=lambda pair: pair[0])
    for area in segment.areas(mm):
        if area.start - area.offset == addr:
            mm.unmap(k, area.start, area.length)
    segment.last, segment.detached_at = t.pid, now(k)
    segments_of(k)
    return 0


# shmctl.


def sys_shmctl(k: Kernel, t: Task, a: Args) -> int:
    number, command = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
    if number >> 31:
        raise Errno("EINVAL")
    segments = segments_of(k)
    if command == IPC_INFO:
        limits = (SIZE_MAX, 1, SEGMENTS_MAX, SEGMENTS_MAX, SIZE_MAX)
        usermem.put(k, t, a[2], _LIMITS.pack(*limits))
        return segments.highest
    if command == SHM_INFO:
        usermem.put(k, t, a[2], _in_use(segments.all))
        return segments.highest
    if command not in _COMMANDS:
        raise Errno("EINVAL")
    if command == IPC_SET:  # what is to be set is read first
        usermem.get(k, t, a[2], PERM_SIZE)
    return _COMMANDS[command](k, t, segments.find(number), a[2])


def _in_use(segments: list[Segment]) -> bytes:
    """Pages are not counted as resident before they are touched; here all of them are."""
    pages = sum(segment.pages for segment in segments)
    return _USE.pack(len(segments), pages, pages, 0, 0, 0)


def _stat_any(k: Kernel, t: Task, segment: Segment, addr: int) -> int:
    times = (segment.attached_at, segment.detached_at, segment.changed_at)
    rest = (segment.creator, segment.last, segment.users(k))
    usermem.put(k, t, addr, segment.perm() + _DS.pack(segment.size, *times, *rest))
    return segment.number


def _stat_by_index(k: Kernel, t: Task, segment: Segment, addr: int) -> int:
    segment.permit(READ)
    return _stat_any(k, t, segment, addr)


def _stat(k: Kernel, t: Task, segment: Segment, addr: int) -> int:
    _stat_by_index(k, t, segment, addr)
    return 0


def _set(k: Kernel, t: Task, segment: Segment, addr: int) -> int:
    segment.set_perm(k, t, addr)
    return 0


def _remove(k: Kernel, t: Task, segment: Segment, addr: int) -> int:
    segment.doomed, segment.key = True, 0
    segment.mode |= _DEST
    segments_of(k)
    return 0


def _lock(k: Kernel, t: Task, segment: Segment, addr: int) -> int:
    """shmctl_do_lock(). Nothing is ever swapped. Errno EPERM, ENOMEM: RLIMIT_MEMLOCK."""
    limit = t.rlimit("MEMLOCK")
    if not limit:
        raise Errno("EPERM")
    locked = sum(s.pages for s in segments_of(k).all if s.mode & _LOCKED)
    if not segment.mode & _LOCKED and (locked + segment.pages) * PAGE > limit:
        raise Errno("ENOMEM")
    segment.mode |= _LOCKED
    return 0


def _unlock(k: Kernel, t: Task, segment: Segment, addr: int) -> int:
    segment.mode &= ~_LOCKED
    return 0


_COMMANDS: Final[dict[int, Callable[[Kernel, Task, Segment, int], int]]] = {
    IPC_STAT: _stat,
    SHM_STAT: _stat_by_index,
    SHM_STAT_ANY: _stat_any,
    IPC_SET: _set,
    IPC_RMID: _remove,
    SHM_LOCK: _lock,
    SHM_UNLOCK: _unlock,
}

CALLS: Final = (
    Call("shmget", sys_shmget, why="no huge pages"),
    Call("shmctl", sys_shmctl),
    Call("shmat", sys_shmat),
    Call("shmdt", sys_shmdt),
)
