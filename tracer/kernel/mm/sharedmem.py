"""Shared memory of no file: each MAP_SHARED|MAP_ANONYMOUS maps a file of its own (mm/shmem.c)."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from shstk.tracer._core import Pages
from shstk.tracer.kernel.fs.inode import DEV_SHMEM, Regular
from shstk.tracer.kernel.mm.vma import MappedFile
from shstk.tracer.kernel.state import Slot

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
