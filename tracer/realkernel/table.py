"""The table that the plugin is given: text, one line a fact, numbers in decimal, addresses in hex.

    shstk-qemu-table 1
    note KEY VALUE                          the plugin skips it; the importer reads it
    trap ADDRESS                            handle_exception
    switch ADDRESS                          __switch_to
    mm OFFSET, state OFFSET                 of task_struct.mm and task_struct.__state
    without ssp                             the harts have no such register
    user NAME BASE OFFSET... SIZE           read at each return to user mode
    watch NUMBER SYMBOL ADDRESS [return] [any] [new=aN] [within=NUMBER]
    peek NUMBER entry|return NAME BASE OFFSET... SIZE
    access ADDRESS                          an instruction that touches user memory

The plugin copies it to the head of its events, so that they can be read alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

HEAD: Final = "shstk-qemu-table 1"
# The notes that say what a kernel hides: `blind:` and a table or column -> why.
BLIND: Final = "blind:"
WITHOUT_SSP: Final = "without ssp"
# Symbols whose absence leaves nothing to record.
TRAP, SWITCH = "handle_exception", "__switch_to"


@dataclass
class Watched:
    """A watched function, as the events' reader knows it: the names of what is read."""

    symbol: str
    returns: bool = False
    entry: list[str] = field(default_factory=list)
    result: list[str] = field(default_factory=list)


@dataclass
class Table:
    """What the reader of events needs of a table."""

    notes: dict[str, str] = field(default_factory=dict)
    user: list[str] = field(default_factory=list)
    watches: list[Watched] = field(default_factory=list)


class BadTable(ValueError):
    """The line that can't be read."""


def parse(text: str) -> Table:
    """Raises BadTable."""
    head, *lines = text.splitlines()
    if head != HEAD:
        raise BadTable(f"it begins with {head[:40]!r}, not with {HEAD!r}")
    table = Table()
    for line in lines:
        kind, _, rest = line.partition(" ")
        words = rest.split()
        try:
            if kind == "note":
                key, _, value = rest.partition(" ")
                table.notes[key] = value
            elif kind == "user":
                table.user.append(words[0])
            elif kind == "watch":
                table.watches.append(Watched(words[1], "return" in words))
            elif kind == "peek":
                watched = table.watches[int(words[0])]
                (watched.entry if words[1] == "entry" else watched.result).append(words[2])
        except (IndexError, ValueError):
            raise BadTable(f"a line is not understood: {line[:80]!r}") from None
    return table


def with_notes(text: str, notes: Mapping[str, str]) -> str:
    """The table with more notes, which are on one line each."""
    head, rest = text.split("\n", 1)
    return "\n".join([head, *note_lines(notes), rest])


def note_lines(notes: Mapping[str, str]) -> Iterable[str]:
    for key, value in notes.items():
        yield f"note {key} {' '.join(value.split())}"
