"""mremap(2): areas shrink, grow, move, and leave their place mapped (mm/mremap.c)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE, PAGE
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm.layout import MIN_ADDR, TASK_SIZE, page_up
from shstk.tracer.kernel.mm.mm import MAX_MAP_COUNT, Mm, Operation
from shstk.tracer.kernel.mm.vma import LOCKED, Vma

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_KNOWN: Final = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP
_U64: Final = 2**64 - 1


@dataclass
class _Remap:
    """struct vma_remap_struct. to: the new address; without MREMAP_FIXED a hint."""

    k: Kernel
    mm: Mm
    old: int
    old_length: int
    length: int
    flags: int
    to: int

    @property
    def placed(self) -> bool:
        """vrm_implies_new_addr."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))

    @property
    def fixed(self) -> bool:
        return bool(self.flags & MREMAP_FIXED)

    def operation(self) -> Operation:
        row = Operation("remap", self.length, hint=self.to, flags=self.flags & 0xFFFF_FFFF)
        row.old_start, row.old_length = self.old, self.old_length
        return row

    def write(self, row: Operation, start: int) -> int:
        row.start, row.length, row.ret = start, self.length, start
        return start


def sys_mremap(k: Kernel, t: Task, a: Args) -> int:
    """Errno: EINVAL, EPERM, EFAULT, ENOMEM, EAGAIN."""
    assert t.mm is not None
    r = _Remap(k, t.mm, t.mm.untagged(a[0]), a[1], a[2], a[3], a[4])
    row = r.operation()
    r.old_length, r.length = page_up(r.old_length) & _U64, page_up(r.length) & _U64
    moves_only = r.fixed and r.old_length == r.length
    try:
        _check(r)
        if moves_only and r.mm.vmas.find(r.old) is None:
            raise Errno("EFAULT")
    except Errno as error:
        row.ret = -error.number
        r.mm.write_operation(k, row)
        raise
    if moves_only:
        return _move_areas(r)
    with r.mm.writing(k, row):
        vma = r.mm.vmas.find(r.old)
        _prepare(r, vma)
        assert vma is not None
        row.old_length, row.shadow_stack = r.old_length, vma.shadow_stack
        return r.write(row, _to(r) if r.placed else _at(r, vma))


def _check(r: _Remap) -> None:
    """check_mremap_params."""
    if r.flags & ~_KNOWN or r.old % PAGE or not 0 < r.length <= TASK_SIZE:
        raise Errno("EINVAL")
    if not r.placed:
        return
    resizes = r.flags & MREMAP_DONTUNMAP and r.old_length != r.length
    overlaps = r.to < r.old + r.old_length and r.old < r.to + r.length
    if r.to > TASK_SIZE - r.length or r.to % PAGE or not r.flags & MREMAP_MAYMOVE:
        raise Errno("EINVAL")
    if resizes or overlaps:
        raise Errno("EINVAL")
    if len(r.mm.vmas) + 5 >= MAX_MAP_COUNT:
        raise Errno("ENOMEM")


def _prepare(r: _Remap, vma: Vma | None) -> None:
    """check_prep_vma."""
    if vma is None:
        raise Errno("EFAULT")
    r.mm.check_seals(r.old, r.old + 1)
    grows = r.length > r.old_length
    if not grows and not r.placed:
        return
    if not r.old_length and not vma.shared:
        raise Errno("EINVAL")  # only shared memory can be mapped a second time
    if "de" in vma.flags and r.flags & MREMAP_DONTUNMAP:
        raise Errno("EINVAL")
    if min(r.old_length, r.length) > vma.end - r.old:
        raise Errno("EFAULT")
    if not grows:
        return
    if "de" in vma.flags:
        raise Errno("EFAULT")
    if vma.flags & LOCKED and not r.mm.may_lock(r.k, r.length - r.old_length):
        raise Errno("EAGAIN")
    r.mm.charge(r.k, _growth(r, vma), replaces=False)


def _growth(r: _Remap, vma: Vma) -> Vma:
    """What is added at the end."""
    end = r.old + r.old_length
    return vma._replace(start=end, end=r.old + r.length, offset=vma.offset_at(end))


def _at(r: _Remap, vma: Vma) -> int:
    """mremap_at: in place, or where there is room."""
    if r.length == r.old_length:
        return r.old
    if r.length < r.old_length:
        _shrink(r)
        return r.old
    grown = _growth(r, vma)
    if vma.end == grown.start and not r.mm.vmas.touching(grown.start, grown.end):
        r.mm.install(r.k, grown)
        _populate(r, vma, r.old)
        return r.old
    if not r.flags & MREMAP_MAYMOVE:
        raise Errno("ENOMEM")
    return _move(r, vma, r.mm.find_place(r.k, 0, r.length, 0, vma.shadow_stack))


def _to(r: _Remap) -> int:
    """mremap_to: to a place that is given."""
    if r.fixed and r.to < MIN_ADDR:
        raise Errno("EPERM")
    vma = r.mm.vmas.find(r.old)
    assert vma is not None
    if r.flags & MREMAP_DONTUNMAP:
        r.mm.charge(r.k, vma.part(r.old, r.old + r.old_length), replaces=False)
    start = r.to if r.fixed else r.mm.find_place(r.k, r.to, r.length, 0, vma.shadow_stack)
    r.mm.check_seals(start, start + r.length)
    if r.fixed and start <= r.old < start + r.length:  # an old length of 0 doesn't overlap
        r.mm.unmap(r.k, start, r.length)
        raise Errno("EFAULT")  # what would be mapped a second time is gone
    if r.fixed:
        r.mm.drop(start, r.length)
    if r.length < r.old_length:
        _shrink(r)
        r.old_length = r.length
    return _move(r, vma, start)


def _shrink(r: _Remap) -> None:
    """shrink_vma: what is cut off may have other areas and holes."""
    start, length = r.old + r.length, r.old_length - r.length
    if start > TASK_SIZE or length > TASK_SIZE - start:
        raise Errno("EINVAL")
    r.mm.check_seals(start, start + length)
    r.mm.drop(start, length)


def _move(r: _Remap, vma: Vma, start: int) -> int:
    """move_vma. With an old length of 0 shared memory is mapped a second time."""
    mm, old, size = r.mm, r.old, r.old_length
    whole = mm.vmas.find(old)
    part = vma.part(old, old + size)
    moved = part._replace(start=start, end=start + size)
    if size:
        mm.vmas.remove(old, old + size)
        mm.move(old, size, start)
        mm.vmas.add(moved)
    if r.flags & MREMAP_DONTUNMAP and whole is not None:
        mm.install(r.k, part)
        for left in mm.vmas.touching(whole.start, whole.end):  # dontunmap_complete()
            mm.set_flags(left.start, left.end, frozenset(), LOCKED)
    if r.length > size:
        offset = part.offset_at(old + size)
        mm.install(r.k, moved._replace(start=start + size, end=start + r.length, offset=offset))
    _populate(r, vma, start)
    return start


def _populate(r: _Remap, vma: Vma, start: int) -> None:
    if vma.flags & LOCKED and r.length > r.old_length:
        r.mm.try_fault_in(start + r.old_length, start + r.length)


def _move_areas(r: _Remap) -> int:
    """remap_move: all areas of the range move, each with a row; gaps between them remain."""
    for vma in r.mm.vmas.touching(r.old, r.old + r.old_length):
        low, high = max(vma.start, r.old), min(vma.end, r.old + r.old_length)
        size, to = high - low, r.to + low - r.old
        one = replace(r, old=low, old_length=size, length=size, to=to)
        with r.mm.writing(r.k, row := one.operation()):
            row.shadow_stack = vma.shadow_stack
            _prepare(one, r.mm.vmas.find(low))
            one.write(row, _to(one))
    return r.to


# Linux does not merge two areas that had pages of their own before they became neighbours.
_MERGED: Final = "neighbours of one kind count as one area, wherever their pages came from"

CALLS: Final = (Call("mremap", sys_mremap, why=_MERGED),)
