"""System V objects: their keys and numbers, and who may use them (ipc/util.c)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from shstk.schemas.uapi import IPC_CREAT, IPC_EXCL
from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.mm import usermem
from shstk.tracer.kernel.task import UID
from shstk.tracer.kernel.time.clock import SECOND, realtime_ns

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel
    from shstk.tracer.kernel.task import Task

READ: Final = 0o444
WRITE: Final = 0o222
IPC_OBJECTS_MAX: Final = 32000  # SEMMNI, MSGMNI
_PERM: Final = struct.Struct("<i5I2H4x16x")  # struct ipc64_perm: key, uid, gid, cuid, cgid, mode

PERM_SIZE: Final = _PERM.size


@dataclass(eq=False)
class Object:
    """key: 0 is IPC_PRIVATE. changed_at: s since 1970."""

    number: int
    key: int
    mode: int
    changed_at: int
    uid: int = UID
    gid: int = UID
    removed: bool = field(default=False, kw_only=True)

    def permit(self, wanted: int) -> None:
        """ipcperms(): the caller is the creator, so the owner's bits decide. Errno EACCES."""
        bits = wanted >> 6 | wanted >> 3 | wanted
        if bits & ~(self.mode >> 6) & 7:
            raise Errno("EACCES")

    def perm(self) -> bytes:
        return _PERM.pack(self.key, self.uid, self.gid, UID, UID, self.mode, 0, 0)

    def set_perm(self, k: Kernel, t: Task, addr: int) -> None:
        """IPC_SET's part that all kinds have. Errno EFAULT, EINVAL."""
        _, uid, gid, _, _, mode, *_ = _PERM.unpack(usermem.get(k, t, addr, _PERM.size))
        if 0xFFFF_FFFF in (uid, gid):
            raise Errno("EINVAL")
        self.uid, self.gid, self.mode = uid, gid, self.mode & ~0o777 | mode & 0o777
        self.changed_at = now(k)


T = TypeVar("T", bound=Object)


class Ids(Generic[T]):
    """The objects of a kind. A number is not used twice."""

    def __init__(self) -> None:
        self.by_number: dict[int, T] = {}
        self.made = 0

    def get(
        self, key: int, flags: int, suits: Callable[[T], None], make: Callable[[int], T]
    ) -> int:
        """ipcget(): the number of the object with this key, or of a new one.

        suits: raises Errno if an existing one is not what the caller asks for. make: gets the
        number, and raises Errno. Errno EEXIST, ENOENT, EACCES, ENOSPC.
        """
        known = next((o for o in self.by_number.values() if key and o.key == key), None)
        if known is not None:
            if flags & IPC_CREAT and flags & IPC_EXCL:
                raise Errno("EEXIST")
            suits(known)
            known.permit(flags)
            return known.number
        if key and not flags & IPC_CREAT:
            raise Errno("ENOENT")
        new = make(self.made)
        if len(self.by_number) >= IPC_OBJECTS_MAX:
            raise Errno("ENOSPC")
        self.made += 1
        self.by_number[new.number] = new
        return new.number

    def find(self, number: int) -> T:
        """Errno EINVAL."""
        found = self.by_number.get(number & 0xFFFF_FFFF)
        if found is None:
            raise Errno("EINVAL")
        return found

    def remove(self, item: T) -> None:
        del self.by_number[item.number]
        item.removed = True

    @property
    def all(self) -> list[T]:
        return list(self.by_number.values())

    @property
    def highest(self) -> int:
        """What IPC_INFO and its kin return."""
        return max(self.by_number, default=0)


def now(k: Kernel) -> int:
    return realtime_ns(k) // SECOND


def asleep(t: Task, sleeper: object) -> bool:
    """Whether a task still is in the call that queued `sleeper`, its `blocked.state`."""
    return t.blocked is not None and t.blocked.state is sleeper
