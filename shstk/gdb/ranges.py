"""Where a range of addresses can be left: a step through a range stops only there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from shstk.tracer._core import decode

_DIRECT: Final = frozenset("BJ")  # formats with the target in the instruction
_ELSEWHERE: Final = frozenset({"jalr", "END"})  # where these go is known when they are executed


def ways_out(text: bytes, first: int) -> tuple[int, ...]:
    """The addresses outside of the range that its instructions go on to, and those inside that must
    be stepped, for an unbroken text from `first` on."""
    end = first + len(text)
    found = {end}
    for address, word in _instructions(text, first):
        decoded = decode(word)
        if decoded is None or not _ELSEWHERE.isdisjoint(decoded[:2]):
            found.add(address)
        elif decoded[1] in _DIRECT and not first <= (target := address + decoded[6]) < end:
            found.add(target % 2**64)
    return tuple(sorted(found))


def _instructions(text: bytes, address: int) -> Iterator[tuple[int, int]]:
    """(address, word). One that is cut off at the end has a word of too few bytes."""
    at = 0
    while at < len(text):
        size = 4 if text[at] & 3 == 3 else 2
        yield address + at, int.from_bytes(text[at : at + size], "little")
        at += size
