"""The character devices of /dev: null, zero, full, random, urandom; getrandom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.tracer.kernel.call import Args, Call
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.fs.files import OpenFile
from shstk.tracer.kernel.fs.inode import Inode, Regular
from shstk.tracer.kernel.fs.transfer import scatter

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

_RANDOM_MAX: Final = 33554431  # bytes a call
_GRND_KNOWN: Final = 7


class DeviceFile(OpenFile):
    """Discards what is written; seeking has no effect."""

    positioned = True
    pollable = False

    def peek_at(self, k: Kernel, t: Task, n: int, offset: int) -> bytes:
        return self.peek(k, t, n) or b""

    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        return len(data)

    def write_at(self, k: Kernel, t: Task, data: bytes, offset: int) -> int:
        return self.write(k, t, data) or 0

    def seek(self, k: Kernel, offset: int, whence: int) -> int:
        return 0


class Null(DeviceFile):
    ignores_data = True

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        return b""


class Zero(DeviceFile):
    ignores_data = True

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        return bytes(n)

    def mapped_inode(self) -> Regular | None:
        return None


class Full(Zero):
    def write(self, k: Kernel, t: Task, data: bytes) -> int | None:
        raise Errno("ENOSPC")


class Random(DeviceFile):
    """Draws from the run's seed, even if the copy to the guest then fails."""

    pollable = True

    def peek(self, k: Kernel, t: Task, n: int) -> bytes | None:
        return k.rng.randbytes(n)


_KINDS: Final[dict[int, type[DeviceFile]]] = {
    0x103: Null,
    0x105: Zero,
    0x107: Full,
    0x108: Random,
    0x109: Random,
}


def open_device(inode: Inode, flags: int, path: str) -> OpenFile:
    return _KINDS[inode.rdev](inode, flags, path)


def sys_getrandom(k: Kernel, t: Task, a: Args) -> int:
    flags = a[2] & 0xFFFF_FFFF
    if flags & ~_GRND_KNOWN or flags & 6 == 6:
        raise Errno("EINVAL")
    data = k.rng.randbytes(min(a[1], _RANDOM_MAX))
    return scatter(k, t, [(a[0], len(data))], data, record=True) if data else 0


CALLS: Final = (Call("getrandom", sys_getrandom, why="determined by --seed; never blocks"),)
