"""Decodes a signal frame: the offset of each part, and the list of extensions.

Offsets are those of arch/riscv's struct rt_sigframe: a siginfo, then a ucontext. The offset of the
general registers never changed; what follows them depends on the switch `sigframe`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SS_PTR_SIZE: Final = 8
ZICFISS_SIZE: Final = 16  # {u32 magic, u32 size, u64 ss_ptr}

# In the frame.
SI_SIGNO, SI_CODE, SI_ADDR, UCONTEXT = 0, 8, 16, 128
# In the ucontext.
UC_FLAGS, UC_LINK, UC_STACK, UC_SIGMASK, SC_REGS = 0, 8, 16, 40, 176
# In sc_regs (words): pc, x1 to x31.
PC, RA, SP, T0, A0, A1, A2 = 0, 1, 2, 5, 10, 11, 12
REGS_SIZE: Final = 256
FP_SIZE: Final = 260  # f0 to f31, fcsr
HEADER: Final = 8
_ALIGN: Final = 16


@dataclass(frozen=True)
class Layout:
    """Offsets in the ucontext that depend on `sigframe`.

    ss_ptr: a fixed field, if any. bare: ss_ptr follows the end of the list. If neither, it is in an
    extension of the list.
    """

    fpregs: int
    reserved: int  # a word that must be zero
    extensions: int
    ss_ptr: int | None = None
    bare: bool = False

    @property
    def extended(self) -> bool:
        """Whether an enabled task's frame has an extension for ss_ptr."""
        return self.ss_ptr is None and not self.bare

    def size(self, extensions: int, enabled: bool) -> int:
        """The size of a whole frame, given the size of the extensions in its list, in bytes.

        Without extensions the struct has room for the end of the list; with them the end is extra.
        """
        extensions += SS_PTR_SIZE if self.bare and enabled else 0
        own = UCONTEXT + self.extensions + HEADER
        return -(-(own + (extensions + HEADER if extensions else 0)) // _ALIGN) * _ALIGN


LAYOUTS: Final = {
    "fixed": Layout(fpregs=448, reserved=964, extensions=968, ss_ptr=432),
    "bare": Layout(fpregs=432, reserved=948, extensions=952, bare=True),
    "ext": Layout(fpregs=432, reserved=948, extensions=952),
}


@dataclass(frozen=True, slots=True)
class Extension:
    """An entry of the list: its offset in the ucontext, and its size including the header."""

    offset: int
    magic: int
    size: int


class Frame:
    """The known bytes of a frame; offsets are from its lowest address."""

    def __init__(self, base: int, pieces: Iterable[tuple[int, bytes]]) -> None:
        """pieces: (address, bytes) as the kernel wrote or read them."""
        self.base = base
        self._pieces = tuple(pieces)

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def bytes(self, offset: int, size: int) -> bytes | None:
        """The bytes at an offset; None unless all of them are known."""
        start = self.base + offset
        found, known = bytearray(size), bytearray(size)
        for addr, data in self._pieces:
            low, high = max(addr, start), min(addr + len(data), start + size)
            if low < high:
                found[low - start : high - start] = data[low - addr : high - addr]
                known[low - start : high - start] = b"\1" * (high - low)
        return bytes(found) if all(known) else None

    def word(self, offset: int, size: int = 8) -> int | None:
        data = self.bytes(offset, size)
        return None if data is None else int.from_bytes(data, "little")

    def uc(self, offset: int, size: int = 8) -> int | None:
        """A word of the ucontext."""
        return self.word(UCONTEXT + offset, size)

    def reg(self, number: int) -> int | None:
        """A register of sc_regs."""
        return self.uc(SC_REGS + 8 * number)

    def extensions(self, layout: Layout) -> tuple[list[Extension], int | None]:
        """The list of extensions, and the offset of its end; None if it breaks off before."""
        found: list[Extension] = []
        at = layout.extensions
        while True:
            magic, size = self.uc(at, 4), self.uc(at + 4, 4)
            if magic is None or size is None:
                return found, None
            if not magic and not size:
                return found, at
            found.append(Extension(at, magic, size))
            if size < HEADER:
                return found, None
            at += size
