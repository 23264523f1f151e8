"""The contents of a file that is mapped MAP_SHARED: frames that every mapping of it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PROT_READ, PROT_WRITE
from shstk.tracer._core import AddressSpace
from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer._core import Machine

SPAN: Final = 1 << 44  # more than any file can hold
_START: Final = 1 << 20  # where the file's first byte lies in the cache's own address space
_SHARED: Final = 16  # _core.PERM_SHARED


class PageCache:
    """An address space of its own: one shared mapping that the guests' mappings are parts of."""

    def __init__(self, machine: Machine, data: bytes | bytearray) -> None:
        self._space = AddressSpace(machine)
        self._space.map(_START, SPAN, PROT_READ | PROT_WRITE | _SHARED)
        self.size = len(data)
        self.write(0, bytes(data))

    def read(self, offset: int, n: int) -> bytes:
        """Up to the file's end."""
        n = min(n, self.size - offset)
        return self._space.read(_START + offset, n) or b"" if n > 0 else b""

    def write(self, offset: int, data: bytes) -> None:
        """Within the file. Errno ENOSPC: the machine's memory is used up."""
        if data and not self._space.write(_START + offset, data):
            raise Errno("ENOSPC")

    def resize(self, size: int) -> None:
        """What is cut off reads as zeros if the file grows again."""
        if size < self.size:
            self.write(size, bytes(self.size - size))
        self.size = size

    def map_into(
        self, space: AddressSpace, start: int, length: int, perm: int, offset: int
    ) -> None:
        space.share(start, length, perm, self._space, _START + offset)
