"""Seals: what can no longer be done to a file in memory (mm/memfd.c, mm/shmem.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shstk.schemas.uapi import (
    F_SEAL_EXEC,
    F_SEAL_FUTURE_WRITE,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    PAGE,
)
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.inode import Regular

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

WRITE_SEALS = F_SEAL_WRITE | F_SEAL_FUTURE_WRITE
_ALL = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | WRITE_SEALS | F_SEAL_EXEC


def check_write(inode: Regular, offset: int, n: int) -> int:
    """How many of n bytes may be written. shmem writes page by page, so a page that would make a
    sealed file grow ends the write. Errno EPERM: none."""
    if inode.seals & WRITE_SEALS:
        raise Errno("EPERM")
    if inode.seals & F_SEAL_GROW and offset + n > inode.size:
        n = max(inode.size // PAGE * PAGE - offset, 0)
        if not n:
            raise Errno("EPERM")
    return n


def check_size(inode: Regular, size: int) -> None:
    if inode.seals & F_SEAL_SHRINK and size < inode.size:
        raise Errno("EPERM")
    if inode.seals & F_SEAL_GROW and size > inode.size:
        raise Errno("EPERM")


def check_mode(inode: Regular, mode: int) -> None:
    if inode.seals & F_SEAL_EXEC and (inode.mode ^ mode) & 0o111:
        raise Errno("EPERM")


def add(k: Kernel, t: Task, fd: int, arg: int) -> int:
    """memfd_add_seals(). Errno EBUSY: a shared mapping could write."""
    file, seals = t.files.get(fd), arg & 0xFFFF_FFFF
    if not file.writable:
        raise Errno("EPERM")
    if seals & ~_ALL or not isinstance(file.inode, Regular):
        raise Errno("EINVAL")
    inode = file.inode
    if inode.seals & F_SEAL_SEAL:
        raise Errno("EPERM")
    if seals & F_SEAL_WRITE and not inode.seals & F_SEAL_WRITE and _mapped_writable(k, inode):
        raise Errno("EBUSY")
    if seals & F_SEAL_EXEC and inode.mode & 0o111:
        seals |= F_SEAL_SHRINK | F_SEAL_GROW | WRITE_SEALS  # W^X
    inode.seals |= seals
    return 0


def _mapped_writable(k: Kernel, inode: Regular) -> bool:
    files = (vma.file for mm in k.mms.values() for vma in mm.vmas if vma.shared)
    return any(file is not None and file.inode is inode and file.writable for file in files)


def get(k: Kernel, t: Task, fd: int, arg: int) -> int:
    inode = t.files.get(fd).inode
    if not isinstance(inode, Regular):
        raise Errno("EINVAL")
    return inode.seals
