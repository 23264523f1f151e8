"""An address space, with the operations behind mmap, munmap, mprotect, madvise and brk.

Each operation, even one that fails, writes one `mappings` row. The limits of `Kernel.current`
apply to it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from shstk.schemas.uapi import (
    ERRNO,
    MADV_GUARD_INSTALL,
    MADV_GUARD_REMOVE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_TYPE,
    PAGE,
    PROT_READ,
    PROT_WRITE,
    RLIM_INFINITY,
)
from shstk.schemas.values import Values
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm.layout import (
    MIN_ADDR,
    STACK_GUARD_GAP,
    TASK_SIZE,
    mmap_base,
    page_down,
    page_up,
    runs,
)
from shstk.tracer.kernel.mm.sharedmem import zero_file
from shstk.tracer.kernel.mm.vma import LOCKED, MappedFile, Vma, core_perm, vm_prot
from shstk.tracer.kernel.mm.vmalist import VmaList

if TYPE_CHECKING:
    from shstk.tracer._core import AddressSpace
    from shstk.tracer.kernel.fs.inode import Regular
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

MAX_MAP_COUNT: Final = 65530
_LO: Final = frozenset({"lo"})


@dataclass
class Operation:
    """The columns of a `mappings` row, filled in during the operation."""

    op: str
    length: int
    start: int | None = None
    hint: int | None = None
    old_start: int | None = None
    old_length: int | None = None
    prot: int | None = None
    flags: int | None = None
    shadow_stack: bool = False
    input: int | None = None
    offset: int | None = None
    ret: int = 0

    def values(self, seq: int, tid: int, mm: int, during: int | None) -> Values:
        """The row."""
        return (
            seq,
            tid,
            mm,
            self.op,
            during,
            self.hint,
            self.start,
            self.length,
            self.old_start,
            self.old_length,
            self.prot,
            self.flags,
            self.shadow_stack,
            self.input,
            self.offset,
            self.ret,
        )


@dataclass
class Birth:
    """How an address space was created: columns of its `mms` row.

    tid: the task it was created for. fork copies the memory before the child has a tid.
    """

    seq: int
    tid: int | None
    cause: str  # "exec" or "fork"
    from_mm: int | None


@dataclass(eq=False)
class Mm:
    """`users` counts tasks."""

    id: int
    space: AddressSpace
    vmas: VmaList
    birth: Birth
    base: int = mmap_base(8 << 20)  # kernel-chosen areas lie below
    users: int = 1
    brk_start: int = 0
    brk: int = 0
    sigreturn: int = 0  # the vdso's code that a handler returns to
    stack_start: int = 0  # sp at exec
    args: tuple[int, int] = (0, 0)  # where argv's strings are, for /proc/PID/cmdline
    envs: tuple[int, int] = (0, 0)
    auxv: bytes = b""
    program: Regular | None = None  # the file that exec loaded
    guards: set[int] = field(default_factory=set)  # pages that MADV_GUARD_INSTALL named
    rss_peak: int = 0  # hiwater_rss: the largest resident size that was ever looked at
    membarriers: int = 0  # registrations of membarrier(2)
    locks: frozenset[str] = frozenset()  # mlockall(MCL_FUTURE): what every new area has of LOCKED
    pmlen: int = 0  # upper bits of pointers that system calls ignore (tagged.py)
    pmlen_locked: bool = False  # a task that shares this mm was created

    def untagged(self, addr: int) -> int:
        """untagged_addr: replace the upper pmlen bits by copies of the next lower bit."""
        kept = 64 - self.pmlen
        low = addr & ((1 << kept) - 1)
        return (low - (low >> (kept - 1) << kept)) & (2**64 - 1) if self.pmlen else addr

    def row(self, seq_end: int | None) -> dict[str, Any]:
        """The row of mms, at the end of the address space or of the run."""
        return {"mm": self.id, "seq_end": seq_end, **vars(self.birth)}

    def copy(self, id: int, birth: Birth) -> Mm:
        """dup_mm: fork's copy, with one user."""
        return replace(
            self,
            id=id,
            birth=birth,
            space=self.space.fork(),
            vmas=self.vmas.copy(),
            guards=set(self.guards),
            users=1,
            rss_peak=0,
            locks=frozenset(),
            pmlen_locked=False,
        )

    # The operations. Addresses and lengths are unchecked arguments of system calls.

    def map(
        self,
        k: Kernel,
        hint: int,
        length: int,
        prot: int,
        flags: int,
        *,
        shadow_stack: bool = False,
        file: MappedFile | None = None,
        offset: int = 0,
        name: str = "",
        special: frozenset[str] = frozenset(),
        refused: Errno | None = None,
    ) -> int:
        """do_mmap: returns the address. Errno: EINVAL, ENOMEM, EEXIST, EPERM, EOVERFLOW.

        refused: raised once the length, the place and what is locked are found good."""
        row = Operation("map", length, hint=hint, prot=prot, flags=flags & 0xFFFF_FFFF)
        row.shadow_stack = shadow_stack
        if file is not None:
            row.input, row.offset = file.input, offset
        with self.writing(k, row):
            if not length:
                raise Errno("EINVAL")
            length = page_up(length)
            if length > TASK_SIZE or len(self.vmas) > MAX_MAP_COUNT:
                raise Errno("ENOMEM")
            if offset + length > 1 << 64:
                raise Errno("EOVERFLOW")
            start = self.find_place(k, hint, length, flags, shadow_stack)
            lock = self.locks | (_LO if flags & MAP_LOCKED else frozenset())
            if flags & MAP_LOCKED and not k.current.rlimit("MEMLOCK"):
                raise Errno("EPERM")
            if lock and not self.may_lock(k, length):
                raise Errno("EAGAIN")
            if refused is not None:
                raise refused
            shared = flags & MAP_TYPE != MAP_PRIVATE
            noreserve = bool(flags & MAP_NORESERVE)
            if shared and file is None:
                file, offset = zero_file(k, length), 0
            vma = Vma(
                start,
                start + length,
                vm_prot(prot),
                shadow_stack,
                shared,
                bool(flags & MAP_GROWSDOWN),
                noreserve,
                special or lock,
                _accountable(vm_prot(prot), shared, noreserve),
                name,
                file,
                offset if file else 0,
            )
            self.check_seals(start, start + length)
            self.charge(k, vma)
            self.install(k, vma)
            row.start, row.length, row.ret = start, length, start
        return start

    def unmap(self, k: Kernel, start: int, length: int) -> None:
        """vm_munmap. Errno: EINVAL, EPERM."""
        with self.writing(k, Operation("unmap", length)) as row:
            if start % PAGE or not length or start > TASK_SIZE or length > TASK_SIZE - start:
                raise Errno("EINVAL")
            length = page_up(length)
            self.check_seals(start, start + length)
            row.start, row.length = start, length
            gone = self.vmas.remove(start, start + length)
            self._forget_guards(start, start + length)
            row.shadow_stack = any(v.shadow_stack for v in gone)
            self.space.unmap(start, length)

    def protect(self, k: Kernel, start: int, length: int, prot: int) -> None:
        """mprotect. A shadow stack remains one. Errno: EINVAL, ENOMEM, EACCES, EPERM."""
        with self.writing(k, Operation("protect", length, prot=prot)) as row:
            if start % PAGE:
                raise Errno("EINVAL")
            length = page_up(length) & RLIM_INFINITY
            if start + length > 1 << 64:
                raise Errno("ENOMEM")
            row.start, row.length = start, length
            at = start
            for old in self.vmas.touching(start, start + length) if length else ():
                if old.start > at:
                    break
                self.check_seals(old.start, old.end)
                end = min(old.end, start + length)
                new = old.part(at, end)._replace(prot=vm_prot(prot))
                if not new.prot & PROT_WRITE:
                    unfaulted = not old.file and not self.space.resident(old.start, old.length)
                    new = new._replace(accounted=old.accounted and not unfaulted)
                elif not old.prot & PROT_WRITE and not old.accounted:
                    new = new._replace(accounted=_accountable(new.prot, new.shared, new.noreserve))
                    self.enough(k, new)
                row.shadow_stack |= old.shadow_stack
                if prot & PROT_WRITE and old.shared and old.file:
                    if not old.file.writable:
                        raise Errno("EACCES")
                    old.file.inode.own(k)
                self.vmas.remove(at, end)
                self.vmas.add(new)
                self.permit(new)
                at = end
            if at < start + length:
                raise Errno("ENOMEM")

    def discard(
        self, k: Kernel, start: int, length: int, advice: int, refused: Errno | None = None
    ) -> None:
        """MADV_DONTNEED: zero anonymous memory, and drop private copies of files. Errno: ENOMEM.

        refused: why nothing is done."""
        with self.writing(k, Operation("discard", length, start=start, flags=advice)) as row:
            for vma in self.vmas.touching(start, start + length):
                row.shadow_stack |= vma.shadow_stack
                if refused is None and "de" not in vma.flags:  # the vdso's page comes back
                    part = vma.part(max(vma.start, start), min(vma.end, start + length))
                    self.space.discard(part.start, part.length)
            if refused is not None:
                raise refused
            if not self.vmas.covers(start, start + length):
                raise Errno("ENOMEM")

    def set_flags(
        self, start: int, end: int, sets: frozenset[str], clears: frozenset[str] = frozenset()
    ) -> None:
        """Of the area that has [start, end), which may split or merge."""
        (part,) = self.vmas.remove(start, end)
        self.vmas.add(part._replace(flags=(part.flags | sets) - clears))

    def fault_in(self, start: int, end: int) -> None:
        """__mm_populate(): give pages to areas that are accessible. Errno: EFAULT, ENOMEM."""
        for vma in self.vmas.touching(start, end):
            if "lf" in vma.flags:
                continue
            low, high = max(vma.start, start), min(vma.end, end)
            if not vma.prot:
                raise Errno("EFAULT")
            write = bool(vma.prot & PROT_WRITE) and not vma.shared
            there = min([high, vma.backed, *self.guards_in(low, high)])
            if there > low and not self.space.populate(low, there - low, write):
                raise Errno("ENOMEM")
            if there < high:
                raise Errno("EFAULT")

    def try_fault_in(self, start: int, end: int) -> None:
        """mm_populate(): as many pages as there are."""
        with suppress(Errno):
            self.fault_in(start, end)

    def populate(self, start: int, end: int, write: bool) -> None:
        """MADV_POPULATE_READ and _WRITE. Errno: ENOMEM, EINVAL, EFAULT."""
        at = start
        for vma in self.vmas.touching(start, end):
            if vma.start > at:
                break
            if not vma.prot & (PROT_WRITE if write else PROT_READ) or (write and vma.shadow_stack):
                raise Errno("EINVAL")
            high = min(vma.end, end)
            there = min([high, vma.backed, *self.guards_in(at, high)])
            if there > at and not self.space.populate(at, there - at, write):
                raise Errno("ENOMEM")
            if there < high:
                raise Errno("EFAULT")
            at = high
        if at < end:
            raise Errno("ENOMEM")

    def install_guards(self, k: Kernel, start: int, length: int) -> None:
        """MADV_GUARD_INSTALL: the pages lose their contents, and every access is a SIGSEGV."""
        row = Operation("discard", length, start=start, flags=MADV_GUARD_INSTALL)
        with self.writing(k, row):
            for vma in self.vmas.touching(start, start + length):
                part = vma.part(max(vma.start, start), min(vma.end, start + length))
                row.shadow_stack |= vma.shadow_stack
                self.guards |= set(range(part.start, part.end, PAGE))
                self.space.discard(part.start, part.length)
                self.permit(part)
                self.set_flags(vma.start, vma.end, frozenset({"gu"}))

    def remove_guards(self, k: Kernel, start: int, length: int) -> None:
        """MADV_GUARD_REMOVE: the pages are as if never touched. A row for each run of guards."""
        for first, size in runs(self.guards_in(start, start + length)):
            self.discard(k, first, size, MADV_GUARD_REMOVE)
            self.guards -= set(range(first, first + size, PAGE))
            for vma in self.vmas.touching(first, first + size):
                self.permit(vma.part(max(vma.start, first), min(vma.end, first + size)))

    def guards_in(self, start: int, end: int) -> list[int]:
        if not self.guards:
            return []
        pages = range(start, end, PAGE)
        fewer, others = sorted((pages, self.guards), key=len)
        return sorted(page for page in fewer if page in others)

    def _forget_guards(self, start: int, end: int) -> None:
        if self.guards:
            self.guards -= set(self.guards_in(start, end))

    def forked(self) -> None:
        """Apply to fork's copy what madvise said of forks. No row: the calls of madvise say it."""
        for vma in list(self.vmas):
            if vma.flags & LOCKED:
                self.set_flags(vma.start, vma.end, frozenset(), LOCKED)
            if "dc" in vma.flags:
                self.drop(vma.start, vma.length)
            elif "wf" in vma.flags:
                self._forget_guards(vma.start, vma.end)
                self.permit(vma)
                self.space.discard(vma.start, vma.length)

    def set_brk(self, k: Kernel, to: int) -> int:
        """brk: returns the new break, or the old one if it can't be moved to `to`."""
        if to < self.brk_start:
            return self.brk
        old_end, new_end = page_up(self.brk), page_up(to)
        if new_end < old_end:
            if not self.vmas.touching(new_end, old_end):
                return self.brk  # what was there is unmapped already
            try:
                self.unmap(k, new_end, old_end - new_end)
            except Errno:
                return self.brk
        elif new_end > old_end:
            limit = k.current.rlimit("DATA")
            if limit != RLIM_INFINITY and to - self.brk_start > limit:
                return self.brk
            flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
            if not self.vmas.fits(old_end, new_end - old_end + PAGE):
                return self.brk
            try:
                self.map(k, old_end, new_end - old_end, 3, flags)
            except Errno:
                return self.brk
            if self.locks:
                self.try_fault_in(old_end, new_end)
        self.brk = to
        return to

    def grow_stack(self, k: Kernel, t: Task, addr: int) -> bool:
        """expand_stack: grow the stack above `addr` down to it. False if it can't grow."""
        vma = self.vmas.after(addr)
        if vma is None or not vma.grows_down or self.vmas.find(addr) is not None:
            return False
        start = page_down(addr)
        below = self.vmas.before(vma.start)
        # expand_downwards(): the gap is kept to accessible areas that do not grow down themselves.
        guarded = below is not None and below.prot and not below.grows_down
        if vma.end - start > t.rlimit("STACK") or (
            below is not None and guarded and start - below.end < STACK_GUARD_GAP
        ):
            return False
        grown = vma._replace(start=start, end=vma.start)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN
        row = Operation("map", grown.length, start=start, hint=start, prot=vma.prot, flags=flags)
        row.ret = start
        try:
            with self.writing(k, row):
                if grown.flags & LOCKED and not self.may_lock(k, grown.length):
                    raise Errno("ENOMEM")
                self.charge(k, grown)
                self.install(k, grown)
        except Errno:
            return False
        if grown.flags & LOCKED:
            self.try_fault_in(grown.start, grown.end)
        return True

    # Parts of the operations.

    def place(self, length: int, align: int) -> int:
        """The address that the kernel would choose, a multiple of `align`. Errno: ENOMEM."""
        extra = max(align - PAGE, 0)
        start = self.vmas.highest_gap(page_up(length) + extra, 0, MIN_ADDR, self.base)
        if start is None:
            raise Errno("ENOMEM")
        return (start + extra) // max(align, PAGE) * max(align, PAGE)

    def find_place(self, k: Kernel, hint: int, length: int, flags: int, shadow_stack: bool) -> int:
        """get_unmapped_area."""
        if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
            if hint > TASK_SIZE - length:
                raise Errno("ENOMEM")
            if hint % PAGE:
                raise Errno("EINVAL")
            if hint < MIN_ADDR:
                raise Errno("EPERM")
            if flags & MAP_FIXED_NOREPLACE and self.vmas.touching(hint, hint + length):
                raise Errno("EEXIST")
            return hint
        if hint:
            at = max(page_down(hint), MIN_ADDR)
            if at <= TASK_SIZE - length and self.vmas.fits(at, length):
                return at
        guard = PAGE if shadow_stack else 0
        start = self.vmas.highest_gap(length, guard, MIN_ADDR, self.base)
        if start is None:
            raise Errno("ENOMEM")
        return start

    def charge(self, k: Kernel, vma: Vma, replaces: bool = True) -> None:
        """may_expand_vm and __vm_enough_memory for an area about to be mapped.

        replaces: in the place of what is there."""
        new = vma.length
        for other in self.vmas.touching(vma.start, vma.end) if replaces else ():
            new -= min(other.end, vma.end) - max(other.start, vma.start)
        if self.vmas.total + new > k.current.rlimit("AS"):
            raise Errno("ENOMEM")
        if vma.is_data and self.vmas.data + vma.length > k.current.rlimit("DATA"):
            raise Errno("ENOMEM")
        self.enough(k, vma)

    def enough(self, k: Kernel, vma: Vma) -> None:
        """The overcommit heuristic: one area may not be larger than the machine."""
        accountable = vma.shared or vma.prot & PROT_WRITE
        if accountable and not vma.noreserve and k.memory is not None and vma.length > k.memory:
            raise Errno("ENOMEM")

    def may_lock(self, k: Kernel, length: int) -> bool:
        """mlock_future_ok."""
        return self.vmas.locked + length <= k.current.rlimit("MEMLOCK")

    def check_seals(self, start: int, end: int) -> None:
        """can_modify_mm. Errno: EPERM."""
        if any("sl" in vma.flags for vma in self.vmas.touching(start, end)):
            raise Errno("EPERM")

    def check_fork(self, k: Kernel) -> None:
        """dup_mmap's accounting. Errno: ENOMEM."""
        for vma in self.vmas:
            if "dc" not in vma.flags:
                self.enough(k, vma)

    def install(self, k: Kernel, vma: Vma) -> None:
        self.vmas.remove(vma.start, vma.end)
        self._forget_guards(vma.start, vma.end)
        if vma.file is not None:
            pages = vma.file.inode.pages(k)
            self.space.map_pages(vma.start, vma.length, core_perm(vma), pages, vma.offset)
        else:
            self.space.map(vma.start, vma.length, core_perm(vma))
        self.vmas.add(vma)

    def permit(self, vma: Vma) -> None:
        self.space.protect(vma.start, vma.length, core_perm(vma))
        for first, size in runs(self.guards_in(vma.start, vma.end)):
            self.space.protect(first, size, 0)

    def file_cut(self, inode: Regular) -> None:
        """unmap_mapping_range: pages past the new end of a file go, private copies too."""
        for vma in self.vmas:
            if vma.file is not None and vma.file.inode is inode and vma.backed < vma.end:
                self.space.discard(vma.backed, vma.end - vma.backed)

    def move(self, old: int, length: int, start: int) -> None:
        """Move pages and guards; the areas are the caller's."""
        self.space.move(old, length, start)
        moved = self.guards_in(old, old + length)
        self.guards = self.guards - set(moved) | {page - old + start for page in moved}

    def drop(self, start: int, length: int) -> None:
        self.vmas.remove(start, start + length)
        self._forget_guards(start, start + length)
        self.space.unmap(start, length)

    def writing(self, k: Kernel, row: Operation) -> _Writing:
        """Write the row of an operation when it ends."""
        return _Writing(self, k, row)

    def write_operation(self, k: Kernel, row: Operation) -> None:
        seq = k.seq()
        if k.rec.keeps:
            k.rec.add("mappings", row.values(seq, k.current.tid, self.id, k.during))


class _Writing:
    """A context in which an operation is carried out."""

    def __init__(self, mm: Mm, k: Kernel, row: Operation) -> None:
        self._mm, self._k, self._row = mm, k, row

    def __enter__(self) -> Operation:
        return self._row

    def __exit__(self, _kind: object, error: BaseException | None, _where: object) -> None:
        if isinstance(error, Errno):
            self._row.ret = -ERRNO[error.name]
        self._mm.write_operation(self._k, self._row)


def _accountable(prot: int, shared: bool, noreserve: bool) -> bool:
    """accountable_mapping."""
    return bool(prot & PROT_WRITE) and not shared and not noreserve
