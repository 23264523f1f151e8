"""What of two runs can be compared: what the recorders of both could observe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from shstk.replay.diff.events import FIELDS
from shstk.replay.needs import unobservable
from shstk.schemas.manifest import Provenance

# Fields that come from columns of another name.
_FROM: Final = {
    **dict.fromkeys(
        ("shadow_stacks.made", "shadow_stacks.gone", "shadow_stacks.released"),
        ("mappings[shadow_stack]",),
    ),
    "signals.token": ("signals.token_addr",),
    "signals.frame": ("signals.frame", "kernel_memory"),
}
# Fields of which a recorder sees only some: strace prints what is at an address in place of it.
_PARTLY: Final = {"strace": tuple(f"syscalls.a{i}" for i in range(6))}
# What names values in every event.
_PLACES: Final = ("mappings", "modules")
_STRINGS: Final = ("kernel_memory",)


@dataclass(frozen=True)
class Observed:
    """unseen: tables and fields that are left out. places: whether it is known what is mapped at
    every address; strings: whether it is known what calls read."""

    unseen: frozenset[str] = frozenset()
    places: bool = True
    strings: bool = True

    @property
    def left_out(self) -> tuple[str, ...]:
        """In words, tables before fields."""
        fields = [n for n in self.unseen if n.partition(".")[0] not in self.unseen or "." not in n]
        words = sorted(fields, key=lambda name: ("." in name, name))
        if not self.places:
            words.append("what is mapped at an address")
        return (*words, *(() if self.strings else ("paths",)))


def observed(provenances: Iterable[Provenance]) -> Observed:
    """What all these recorders could observe."""
    recorders = tuple(provenances)

    def seen(needs: tuple[str, ...]) -> bool:
        return not any(unobservable(r, need) for r in recorders for need in needs)

    unseen = {name for name in FIELDS if not seen(_FROM.get(name, (name,)))}
    unseen.update(*(_PARTLY.get(r.recorder, ()) for r in recorders))
    return Observed(frozenset(unseen | {*_whole(unseen)}), seen(_PLACES), seen(_STRINGS))


def _whole(unseen: set[str]) -> Iterator[str]:
    """The tables of which every field is unseen."""
    for table in {name.partition(".")[0] for name in unseen}:
        if all(name in unseen for name in FIELDS if name.partition(".")[0] == table):
            yield table
