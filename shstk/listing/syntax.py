"""Parse a Markdown listing into lines of words: its ```run blocks, their runs, and nesting."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from shstk.schemas.errors import BadListing

_FENCE: Final = re.compile(r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})\s*(?P<info>.*?)\s*$")
_TOKEN: Final = re.compile(
    r"""
      (?P<blank> \s+ | \#.* )
    | (?P<mark> [{};] )
    | (?P<word> (?: "(?:\\.|[^"\\])*" | \([^()]*\) | [^\s{};\#"()] )+ )
    """,
    re.VERBOSE,
)


@dataclass
class Line:
    """One event (or line of the head): its words and the events inside its braces."""

    number: int  # in the file
    words: list[str]
    inner: list[Line] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """The lines of one run."""

    where: str  # file name, for errors
    name: str
    lines: list[Line]


def read(text: str, where: str) -> dict[str, Listing]:
    """The runs of a file by name; "" if no block has a name. Raises BadListing."""
    blocks = list(_blocks(text, where))
    if not blocks:
        raise BadListing(f"{where}: no run found", "write events in blocks fenced as ```run")
    names = list(dict.fromkeys(name for name, _ in blocks if name)) or [""]
    return {
        name: Listing(
            where, name, [line for owner, lines in blocks if owner in ("", name) for line in lines]
        )
        for name in names
    }


def _blocks(text: str, where: str) -> list[tuple[str, list[Line]]]:
    """(run name, lines) of each block, in file order."""
    blocks: list[tuple[str, list[Line]]] = []
    opened: re.Match[str] | None = None
    started, content = 0, [""]
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, started, content = fence, number, []
        elif fence and not fence["info"] and fence["fence"].startswith(opened["fence"]):
            kind, _, name = opened["info"].partition(" ")
            if kind == "run":
                blocks.append((name.strip(), _lines(content, started + 1, where)))
            opened = None
        else:
            content.append(line)
    if opened is not None:
        raise BadListing(f"{where}:{started}: this block is never closed", "close it with ```")
    return blocks


def _lines(content: list[str], first: int, where: str) -> list[Line]:
    top: list[Line] = []
    open_: list[Line] = []  # the events whose braces are open
    for number, text in enumerate(content, first):
        words: list[str] = []
        for kind, token in _tokens(text, f"{where}:{number}"):
            if kind == "word":
                words.append(token)
                continue
            if words:
                line = Line(number, words)
                (open_[-1].inner if open_ else top).append(line)
            if token == "{":
                if not words:
                    raise BadListing(
                        f"{where}:{number}: no event before this brace",
                        "put the brace on the line of its event",
                    )
                open_.append(line)
            elif token == "}":
                if not open_:
                    raise BadListing(f"{where}:{number}: no open brace to close")
                open_.pop()
            words = []
    if open_:
        raise BadListing(f"{where}:{open_[-1].number}: its brace is never closed")
    return top


def _tokens(text: str, place: str) -> list[tuple[str, str]]:
    """Words and marks of a line; its end is the mark ";"."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise BadListing(
                f"{place}: cannot read {text[at:]!r:.40}", "a quote or parenthesis is not closed"
            )
        if match.lastgroup != "blank":
            found.append((str(match.lastgroup), match[0]))
        at = match.end()
    return [*found, ("mark", ";")]
