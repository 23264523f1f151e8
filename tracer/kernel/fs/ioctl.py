"""ioctl(2): the requests that every descriptor supports; each class of files adds its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import (
    FICLONE,
    FICLONERANGE,
    FIGETBSZ,
    FIOASYNC,
    FIOCLEX,
    FIONBIO,
    FIONCLEX,
    FIONREAD,
    FIOQSIZE,
    FS_IOC_FIEMAP,
    O_NONBLOCK,
    PAGE,
)
from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs import sigio
from shstk.tracer.kernel.fs.inode import Directory, Regular
from shstk.tracer.kernel.mm import usermem

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task


def _fionclex(k: Kernel, t: Task, fd: int, arg: int) -> int:
    t.files.cloexec.discard(fd)
    return 0


def _fioclex(k: Kernel, t: Task, fd: int, arg: int) -> int:
    t.files.cloexec.add(fd)
    return 0


def _fionbio(k: Kernel, t: Task, fd: int, arg: int) -> int:
    file = t.files.get(fd)
    on = usermem.get_u32(k, t, arg)
    file.flags = file.flags | O_NONBLOCK if on else file.flags & ~O_NONBLOCK
    return 0


def _fioasync(k: Kernel, t: Task, fd: int, arg: int) -> int:
    file, on = t.files.get(fd), bool(usermem.get_u32(k, t, arg))
    if isinstance(file.inode, Regular | Directory):
        raise Errno("ENOTTY")
    sigio.switch(k, file, on, fd)
    return 0


def _fionread(k: Kernel, t: Task, fd: int, arg: int) -> int:
    file = t.files.get(fd)
    if not isinstance(file.inode, Regular):
        return file.ioctl(k, t, FIONREAD, arg)
    file.inode.see(k)
    usermem.put_u32(k, t, arg, file.inode.size - file.pos)
    return 0


def _fioqsize(k: Kernel, t: Task, fd: int, arg: int) -> int:
    inode = t.files.get(fd).inode
    if not isinstance(inode, Regular | Directory):
        raise Errno("ENOTTY")
    inode.see(k)
    usermem.put_u64(k, t, arg, inode.size)
    return 0


def _figetbsz(k: Kernel, t: Task, fd: int, arg: int) -> int:
    t.files.get(fd)
    usermem.put_u32(k, t, arg, PAGE)
    return 0


def _not_on_tmpfs(k: Kernel, t: Task, fd: int, arg: int) -> int:
    t.files.get(fd)
    raise Errno("EOPNOTSUPP")


_REQUESTS: Final = {
    FIONCLEX: _fionclex,
    FIOCLEX: _fioclex,
    FIONBIO: _fionbio,
    FIOASYNC: _fioasync,
    FIONREAD: _fionread,
    FIOQSIZE: _fioqsize,
    FIGETBSZ: _figetbsz,
    FICLONE: _not_on_tmpfs,
    FICLONERANGE: _not_on_tmpfs,
    FS_IOC_FIEMAP: _not_on_tmpfs,
}


def sys_ioctl(k: Kernel, t: Task, a: Args) -> int:
    """Errno ENOTTY for a request that the file doesn't support."""
    fd, request = a[0] & 0xFFFF_FFFF, a[1] & 0xFFFF_FFFF
    file = t.files.get(fd)
    if request in _REQUESTS:
        return _REQUESTS[request](k, t, fd, a[2])
    if isinstance(file.inode, Regular):
        raise Errno("ENOTTY")
    return file.ioctl(k, t, request, a[2])


CALLS: Final = (
    Call(
        "ioctl",
        sys_ioctl,
        why="terminals, pipes, sockets, pidfds, PROCMAP_QUERY and FIO*;"
        " no FS_IOC_*, no PAGEMAP_SCAN, no namespaces of pidfds",
    ),
)
