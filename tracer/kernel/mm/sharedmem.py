"""Shared memory: files without a name, and the times of files that are stored to.

Each MAP_SHARED|MAP_ANONYMOUS maps a file of its own (mm/shmem.c).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from shstk.tracer._core import Pages
from shstk.tracer.kernel.fs.inode import DEV_SHMEM, Regular
from shstk.tracer.kernel.mm.vma import MappedFile
from shstk.tracer.kernel.state import Slot
from shstk.tracer.kernel.time.clock import realtime_ns

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


class _Numbers:
    def __init__(self) -> None:
        self.last = 1024


_NUMBERS: Final = Slot(_Numbers)


def zero_file(k: Kernel, length: int) -> MappedFile:
    """shmem_zero_setup."""
    numbers = _NUMBERS.of(k)
    numbers.last += 1
    inode = shmem_inode(k, numbers.last, 0o777, length)
    return MappedFile("/dev/zero (deleted)", inode, writable=True)


def shmem_inode(k: Kernel, ino: int, bits: int, size: int) -> Regular:
    """A file without a name; its pages are zeros until they are stored to."""
    pages = Pages(k.machine)
    pages.resize(size)
    mode = stat.S_IFREG | bits
    return Regular(ino, mode, nlink=0, dev=DEV_SHMEM, data=pages, began=b"")


def note_stores(k: Kernel) -> None:
    """file_update_time at the first store through a shared mapping, and at the first one after the
    file was written back."""
    k.machine.stored = False
    for vma in (vma for mm in k.mms.values() for vma in mm.vmas if vma.shared):
        inode = vma.file.inode if vma.file is not None else None
        if inode is not None and isinstance(inode.data, Pages) and inode.data.note_store():
            inode.changed(realtime_ns(k), contents=True)
