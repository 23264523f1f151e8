"""The two call stacks of a thread, word by word: the shadow stack's and the ordinary one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shstk.replay.dump.unwind import Entry

_REACH: Final = 4096  # words that one side may have more, for the two to meet again


@dataclass(frozen=True, slots=True)
class Line:
    """A return address on both stacks, or on one of them.

    shadow: its address on the shadow stack. entry: where it is on the ordinary one.
    kind: same; shadow or ordinary: it is on this one alone; not pushed: it is still in a register,
    or its function has no sspush; unclear: it is not on the shadow stack, and its function's code,
    which would tell whether it pushes, is not known;
    unshadowed: there is no shadow stack to compare with;
    token: of a signal, at the place where the ordinary stack has the signal's frame; interrupted:
    where that signal came.
    """

    value: int
    shadow: int | None
    entry: Entry | None
    kind: str

    @property
    def differs(self) -> bool:
        return self.kind in ("shadow", "ordinary")


def compare(
    shadow: Sequence[tuple[int, int]] | None, ordinary: Sequence[Entry], instruction: str | None
) -> list[Line]:
    """Innermost first. shadow: (address, word) from ssp upwards; None: there is no shadow stack.
    instruction: where the thread is. At an sspopchk what is in the register should be on the shadow
    stack, at an sspush or where a jump has just led to (lpad) it is not there yet."""
    if shadow is None:
        kinds = {"signal": "interrupted"}
        return [Line(e.value, None, e, kinds.get(e.how, "unshadowed")) for e in ordinary]
    return list(_lines(shadow, ordinary, instruction))


def _lines(
    shadow: Sequence[tuple[int, int]], ordinary: Sequence[Entry], instruction: str | None
) -> Iterator[Line]:
    i = j = 0
    while i < len(shadow) or j < len(ordinary):
        at, word = shadow[i] if i < len(shadow) else (0, None)
        entry = ordinary[j] if j < len(ordinary) else None
        if entry and entry.how == "signal":
            if word == at + 8:
                yield Line(word, at, entry, "token")
                i += 1
            yield Line(entry.value, None, entry, "interrupted")
            j += 1
        elif (
            entry
            and word == entry.value
            and not (instruction in ("sspush", "lpad") and entry.how == "register" and j == 0)
        ):
            yield Line(entry.value, at, entry, "same")
            i, j = i + 1, j + 1
        elif entry and (alone := _excused(entry, instruction == "sspopchk" and j == 0)):
            yield Line(entry.value, None, entry, alone)
            j += 1
        else:
            more, less = _until_they_meet(shadow[i:], ordinary[j:])
            for at, word in shadow[i : i + more]:
                yield Line(word, at, None, "shadow")
            for entry in ordinary[j : j + less]:
                yield Line(entry.value, None, entry, "ordinary")
            i, j = i + more, j + less


def _excused(entry: Entry, popping: bool) -> str:
    """Why a return address that the shadow stack lacks is no difference; empty: it is one."""
    if entry.how == "register":
        return "" if popping else "not pushed"
    if entry.how == "search" or entry.pushed:
        return ""
    return "unclear" if entry.pushed is None else "not pushed"


def _until_they_meet(
    shadow: Sequence[tuple[int, int]], ordinary: Sequence[Entry]
) -> tuple[int, int]:
    """How many words of each go by before both have the same, as few as possible; of two ways the
    one by which they go by in pairs."""
    places: dict[int, list[int]] = {}
    for n, (_, word) in enumerate(shadow[:_REACH]):
        places.setdefault(word, []).append(n)
    best: tuple[int, int] | None = None
    for n, entry in enumerate(ordinary[:_REACH]):
        if best and n > max(best):
            break
        found = places.get(entry.value, [])
        at = bisect_left(found, n)
        for more in found[max(at - 1, 0) : at + 1]:
            if best is None or _cost(more, n) < _cost(*best):
                best = more, n
    return best or (len(shadow), len(ordinary))


def _cost(more: int, less: int) -> tuple[int, int]:
    return max(more, less), abs(more - less)
