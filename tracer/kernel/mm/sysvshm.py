"""System V shared memory: numbered segments that processes attach and detach."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    IPC_CREAT,
    IPC_EXCL,
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
    SHM_LOCK,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_UNLOCK,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import DEV_ANON, Regular
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.mm.mm import Mm, page_up
from shstk.tracer.kernel.mm.pagecache import PageCache
from shstk.tracer.kernel.mm.vma import MappedFile, Vma
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.task import UID
from shstk.tracer.kernel.time.clock import SECOND, realtime_ns

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_DEST: Final = 0o1000  # SHM_DEST in the mode: destroyed at the last detach
_SEGMENTS_MAX: Final = 4096  # kernel.shmmni
# struct shmid64_ds: key, uid, gid, cuid, cgid, mode, seq; size, atime, dtime, ctime, cpid, lpid,
# attached
_DS: Final = struct.Struct("<i5I2H4x16xQqqqiiQ16x")


@dataclass(eq=False)
class Segment:
    """key: None after IPC_RMID, when the segment is found only by its number."""

    number: int
    key: int | None
    size: int
    inode: Regular
    file: MappedFile
    creator: int
    last: int = 0  # pid that attached or detached last
    attached_at: int = 0  # s since 1970
    detached_at: int = 0
    changed_at: int = 0
    doomed: bool = False

    def areas(self, mm: Mm) -> list[Vma]:
        return [v for v in mm.vmas if v.file is not None and v.file.inode is self.inode]

    def users(self, k: Kernel) -> int:
        return sum(len(self.areas(mm)) for mm in k.mms.values())


class Segments:
    def __init__(self) -> None:
        self.by_number: dict[int, Segment] = {}
        self.made = 0  # number of the next segment


SEGMENTS: Final = Slot(Segments)


def _now(k: Kernel) -> int:
    return realtime_ns(k) // SECOND


def _sweep(k: Kernel) -> None:
    """Free the removed segments that no process has attached."""
    segments = SEGMENTS.of(k).by_number
    for segment in list(segments.values()):
        if segment.doomed and not segment.users(k):
            k.sandbox.charge(-segment.size)
            del segments[segment.number]


def _segment(k: Kernel, number: int) -> Segment:
    _sweep(k)
    segment = SEGMENTS.of(k).by_number.get(number & 0xFFFF_FFFF)
    if segment is None:
        raise Errno("EINVAL")
    return segment


def sys_shmget(k: Kernel, t: Task, a: Args) -> int:
    key, size, flags = a[0] & 0xFFFF_FFFF, a[1], a[2] & 0xFFFF_FFFF
    _sweep(k)
    segments = SEGMENTS.of(k)
    known = next((s for s in segments.by_number.values() if key and s.key == key), None)
    if known is not None:
        if flags & IPC_CREAT and flags & IPC_EXCL:
            raise Errno("EEXIST")
        if size > known.size:
            raise Errno("EINVAL")
        return known.number
    if key and not flags & IPC_CREAT:
        raise Errno("ENOENT")
    if not 0 < size < 1 << 63 or flags & SHM_HUGETLB:
        raise Errno("EINVAL")
    if len(segments.by_number) >= _SEGMENTS_MAX:
        raise Errno("ENOSPC")
    k.sandbox.charge(size)
    cache = PageCache(k.machine, b"")
    cache.resize(page_up(size))
    mode = stat.S_IFREG | flags & 0o777
    inode = Regular(k.sandbox.new_ino(), mode, nlink=0, dev=DEV_ANON, data=cache)
    file = MappedFile(f"/SYSV{key:08x} (deleted)", b"", None, inode, writable=True)
    number = segments.made
    segments.made += 1
    segments.by_number[number] = Segment(number, key, size, inode, file, t.pid, changed_at=_now(k))
    return number


def sys_shmat(k: Kernel, t: Task, a: Args) -> int:
    segment, addr, flags = _segment(k, a[0]), a[1], a[2] & 0xFFFF_FFFF
    assert t.mm is not None
    if addr % PAGE:
        if not flags & SHM_RND:
            raise Errno("EINVAL")
        addr &= -PAGE
    if flags & SHM_REMAP and not addr:
        raise Errno("EINVAL")
    prot = PROT_READ if flags & SHM_RDONLY else PROT_READ | PROT_WRITE
    prot |= PROT_EXEC if flags & SHM_EXEC else 0
    segment.inode.permit(4 if flags & SHM_RDONLY else 6)
    how = MAP_SHARED
    if addr:
        how |= MAP_FIXED if flags & SHM_REMAP else MAP_FIXED_NOREPLACE
        if not flags & SHM_REMAP and t.mm.vmas.touching(addr, addr + segment.size):
            raise Errno("EINVAL")
    start = t.mm.map(k, addr, segment.size, prot, how, file=segment.file)
    segment.last, segment.attached_at = t.pid, _now(k)
    return start


def sys_shmdt(k: Kernel, t: Task, a: Args) -> int:
    """Unmap all that is left of the areas of one shmat."""
    assert t.mm is not None
    vma = t.mm.vmas.find(a[0])
    for segment in list(SEGMENTS.of(k).by_number.values()):
        if vma is None or vma not in segment.areas(t.mm) or vma.start - vma.offset != a[0]:
            continue
        for area in segment.areas(t.mm):
            if area.start - area.offset == a[0]:
                t.mm.unmap(k, area.start, area.length)
        segment.last, segment.detached_at = t.pid, _now(k)
        _sweep(k)
        return 0
    raise Errno("EINVAL")


def sys_shmctl(k: Kernel, t: Task, a: Args) -> int:
    """Errno: EINVAL also for IPC_INFO, SHM_STAT and the like, which ipcs uses."""
    command = a[1] & 0xFFFF_FFFF
    if command not in (IPC_RMID, IPC_SET, IPC_STAT, SHM_LOCK, SHM_UNLOCK):
        raise Errno("EINVAL")
    segment = _segment(k, a[0])
    if command == IPC_STAT:
        usermem.put(k, t, a[2], _described(k, segment))
    elif command == IPC_SET:
        mode = _DS.unpack(usermem.get(k, t, a[2], _DS.size))[5]
        segment.inode.mode = segment.inode.mode & ~0o777 | mode & 0o777
        segment.changed_at = _now(k)
    elif command == IPC_RMID:
        segment.doomed, segment.key = True, None
        _sweep(k)
    return 0


def _described(k: Kernel, s: Segment) -> bytes:
    mode = s.inode.mode & 0o777 | (_DEST if s.doomed else 0)
    times = (s.attached_at, s.detached_at, s.changed_at)
    owner = (UID, UID, UID, UID, mode, 0, 0)
    return _DS.pack(s.key or 0, *owner, s.size, *times, s.creator, s.last, s.users(k))


CALLS: Final = (
    Call("shmget", sys_shmget, "modelled", "no huge pages"),
    Call("shmctl", sys_shmctl, "modelled", "no IPC_INFO, SHM_STAT (ipcs)"),
    Call("shmat", sys_shmat),
    Call("shmdt", sys_shmdt),
)
