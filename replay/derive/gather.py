"""One pass over cfi, shared by all that read the whole of it: decoding it costs more than most."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from shstk.replay.derive.pieces import Piece, pieces

if TYPE_CHECKING:
    from shstk.replay.run import Run

T = TypeVar("T")
# It is sent every piece of cfi, in order, and then None; it returns what it gathered.
Gather: TypeAlias = Generator[None, "Piece | None", T]


def gathered(run: Run, *gathers: Gather[Any]) -> list[Any]:
    """What each of them returns."""
    for gather in gathers:
        next(gather)
    for piece in pieces(run):
        for gather in gathers:
            gather.send(piece)
    return [_end(gather) for gather in gathers]


def _end(gather: Gather[T]) -> T:
    try:
        gather.send(None)
    except StopIteration as end:
        found: T = end.value
        return found
    raise AssertionError("it did not end with the table")
