"""The areas of a dumped process, and which of them are shadow stacks.

A core does not say so: a shadow stack's PT_LOAD has the flags of any anonymous memory. The area
that a thread's ssp lies in is one. A guess is one that holds nothing but return addresses and
tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from shstk.schemas.links import follows_call
from shstk.schemas.uapi import PAGE
from shstk.tracer import elf
from shstk.tracer.importers.core.elfcore import Core, Segment
from shstk.tracer.importers.core.files import Files
from shstk.tracer.importers.core.notes import Notes

_PF: Final = ((4, 1), (2, 2), (1, 4))  # PF_R, PF_W, PF_X as PROT_*
_RW, _X = 6, 1


@dataclass(frozen=True)
class Area:
    segment: Segment
    prot: int
    sign: str | None  # of vocabulary.SHADOW_STACK_SIGNS
    name: str | None
    offset: int | None


def areas(core: Core, notes: Notes, files: Files, astray: bool) -> list[Area]:
    """astray: whether the first thread died because its ssp lies in no shadow stack."""
    known = {s.start for s in _of_ssp(core, notes, files, astray)}
    stack = notes.auxv.get(elf.AT_RANDOM, 0)
    taken = {s.start for t in notes.threads if (s := core.at(t.x(2)))}
    found = []
    for segment in core.segments:
        mapped = files.at(segment.start)
        name = mapped.path if mapped else None
        if segment.start <= stack < segment.end and name is None:
            name = "[stack]"
        sign = "ssp" if segment.start in known else None
        if (
            not sign
            and name is None
            and segment.start not in taken
            and _looks(core, segment, files)
        ):
            sign = "guess"
        prot = sum(prot for flag, prot in _PF if segment.flags & flag)
        offset = mapped.offset + segment.start - mapped.start if mapped else None
        found.append(Area(segment, prot, sign, name, offset))
    return found


def _of_ssp(core: Core, notes: Notes, files: Files, astray: bool) -> Iterator[Segment]:
    """Between two neighbours an ssp is on the empty one below, as long as nothing stands there."""
    stacks = {s.start for t in notes.threads if (s := core.at(t.x(2)))}
    for thread in notes.threads[1 if astray else 0 :]:
        ssp = thread.ssp
        if ssp is None:
            continue
        here, below = core.at(ssp), core.at(ssp - 1)
        found = below if below and below.end == ssp and not core.word(ssp) else here
        ordinary = found is None or found.flags & _X or files.at(found.start)
        if found and not ordinary and found.start not in stacks:
            yield found


def _looks(core: Core, segment: Segment, files: Files) -> bool:
    """Whether every word is a return address, a token or zero, and some are not zero."""
    if segment.flags & 7 != _RW or segment.size < segment.length:
        return False
    is_code = _returns(core, files)
    held = 0
    for address, word in words(core, segment):
        if word != address + 8 and not is_code(word):
            return False
        held += 1
    return held > 0


def words(core: Core, segment: Segment) -> Iterator[tuple[int, int]]:
    """Those that are not zero, with their addresses."""
    zeros = bytes(PAGE)
    for at in range(0, segment.size, PAGE):
        page = core.part(segment.start + at, PAGE)
        if page == zeros[: len(page)]:
            continue
        for offset in range(0, len(page) - 7, 8):
            if word := int.from_bytes(page[offset : offset + 8], "little"):
                yield segment.start + at + offset, word


def _returns(core: Core, files: Files) -> Callable[[int], bool]:
    """Whether a word is an address in code that a call returns to."""
    known: dict[int, bool] = {}

    def returns(word: int) -> bool:
        if word not in known:
            segment = core.at(word)
            code = bool(segment and segment.flags & _X) and word % 2 == 0
            known[word] = code and follows_call(before(core, files, word))
        return known[word]

    return returns


def before(core: Core, files: Files, address: int) -> bytes:
    """The four bytes of code before an address; zeros if they are not known."""
    data = core.read(address - 4, 4) if address >= 4 else b""
    return data if len(data) == 4 else files.read(address - 4, 4).rjust(4, b"\0")
