"""The words on shadow stacks, as far as the log's stores tell them.

The log has the address of a load, not its value. A word is known from the last store at its address
to the next fence of address translations: after that the address may be another page. M and S mode
can reach the page by another address too. Where they stored at the same offset of a page since, the
word is unknown.
"""

from __future__ import annotations

from typing import Final

from shstk.schemas.uapi import PAGE

_WORD: Final = 8
_USER: Final = 0

Space = tuple[int, ...]  # what translates addresses: satp, vsatp, hgatp; () for none


class Words:
    def __init__(self) -> None:
        self._known: dict[tuple[Space, int], tuple[int, int]] = {}  # -> word, when
        self._stored = [0] * (PAGE // _WORD)  # when M or S mode last stored at each offset
        self._now = 0

    def forget(self) -> None:
        """Addresses may have other pages now."""
        self._known.clear()

    def at(self, space: Space, address: int) -> int | None:
        word, when = self._known.get((space, address), (None, 0))
        return word if when >= self._stored[address % PAGE // _WORD] else None

    def pushed(self, space: Space, address: int, value: int, size: int) -> None:
        """A store by a shadow-stack instruction."""
        self._now += 1
        before = self.at(space, address & -_WORD)
        self._overwritten(space, address, size)
        start = address & -_WORD
        if size < _WORD and before is not None and address + size <= start + _WORD:
            shift, mask = (address - start) * 8, (1 << size * 8) - 1
            value = before & ~(mask << shift) | (value & mask) << shift
        elif size < _WORD or address != start:
            return
        self._known[space, start] = value, self._now

    def stored(self, space: Space, mode: int, address: int, value: int, size: int) -> None:
        """An ordinary store."""
        self._now += 1
        if mode != _USER:
            for at in range(address & -_WORD, address + size, _WORD):
                self._stored[at % PAGE // _WORD] = self._now
        if not self._known:
            return
        if (space, address) in self._known and size == _WORD:
            self._known[space, address] = value, self._now
        else:
            self._overwritten(space, address, size)

    def _overwritten(self, space: Space, address: int, size: int) -> None:
        for at in range(address & -_WORD, address + size, _WORD):
            self._known.pop((space, at), None)
