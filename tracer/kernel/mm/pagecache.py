"""The contents of a file mapped MAP_SHARED, in frames that all its mappings share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shstk.schemas.uapi import PROT_READ, PROT_WRITE
from shstk.tracer._core import AddressSpace
from shstk.tracer.kernel.errno import Errno

if TYPE_CHECKING:
    from shstk.tracer._core import Machine

SPAN: Final = 1 << 44  # more than any file can hold
_START: Final = 1 << 20  # address of the file's first byte in the cache's address space
_SHARED: Final = 16  # _core.PERM_SHARED


class PageCache:
    """An address space with one shared mapping. The guests' mappings share its frames."""

    def __init__(self, machine: Machine, data: bytes | bytearray) -> None:
        self._space = AddressSpace(machine)
        self._space.map(_START, SPAN, PROT_READ | PROT_WRITE | _SHARED)
        self.size = len(data)
        self.write(0, bytes(data))

    def read(self, offset: int, n: int) -> bytes:
        """At most up to the end of the file."""
        n = min(n, self.size - offset)
        return self._space.read(_START + offset, n) or b"" if n > 0 else b""

    def write(self, offset: int, data: bytes) -> None:
        """The range must be in the file. Errno: ENOSPC if the machine is out of memory."""
        if data and not self._space.write(_START + offset, data):
            raise Errno("ENOSPC")

    def resize(self, size: int) -> None:
        """Zero what a truncation cuts off, in case the file grows again."""
        if size < self.size:
            self.write(size, bytes(self.size - size))
        self.size = size

    def map_into(
        self, space: AddressSpace, start: int, length: int, perm: int, offset: int
    ) -> None:
        space.share(start, length, perm, self._space, _START + offset)
