"""How text for people is set: how wide, and how words are set off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from textwrap import wrap

_NARROWEST = 40


def _plain(text: str, style: str) -> str:
    return text


@dataclass(frozen=True)
class Look:
    """width: of a line, in columns; None does not break lines. paint: sets a text off in a style,
    one of error, warning, good, place, label, strong."""

    width: int | None = None
    paint: Callable[[str, str], str] = _plain

    def narrower(self, by: int) -> Look:
        return replace(self, width=self.width and self.width - by)

    def field(self, label: str, text: str, indent: int = 4, column: int = 10) -> list[str]:
        """A label, and beside it a text that is broken below itself."""
        first, *rest = self.broken(text, indent + column)
        return [" " * indent + self.paint(label, "label") + " " * (column - len(label)) + first] + [
            " " * (indent + column) + line for line in rest
        ]

    def text(self, text: str, indent: int = 0, more: int = 0) -> list[str]:
        """A text in lines. indent: of the first; more: of the others beyond that."""
        first, *rest = self.broken(text, indent + more)
        return [" " * indent + first, *(" " * (indent + more) + line for line in rest)]

    def broken(self, text: str, indent: int) -> list[str]:
        """A text in lines that leave room for an indent."""
        if self.width is None:
            return [text]
        width = max(self.width - indent, _NARROWEST)
        lines = wrap(text, width, break_long_words=False, break_on_hyphens=False)
        return lines or [""]


PLAIN = Look()
