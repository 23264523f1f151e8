"""Names that a guest chose reach the terminal as text, never as commands to it.

A path, an argument or an environment variable of a guest may hold escape sequences that move the
cursor, hide text or retitle the window, and so may a run that somebody else made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import TextIO

_BREAKS: Final = {ord(char): None for char in "\t\n"}
_COLOR: Final = re.compile("\x1b\\[(?:0|1|2|3[0-7]|9[0-7])m")
# Group 1: the colors and the bold that shstk itself writes. The others: control characters but tab
# and newline, characters that turn the direction of text, and bytes that are no UTF-8.
_COMMAND: Final = (
    f"({_COLOR.pattern})"
    "|[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escaped(text: str) -> str:
    r"""The text with \x1b for an escape character, and so on."""
    if text.isascii() and text.translate(_BREAKS).isprintable():
        return text  # most are; the pattern takes longer to compile than --help to print
    return re.sub(_COMMAND, lambda found: found[1] or _spelled(found[0]), text)


def _spelled(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name: surrogateescape
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Escaping:
    """A text stream whose text is escaped, and colored only if `color`. raw: the stream itself."""

    def __init__(self, raw: TextIO, color: bool) -> None:
        self.raw = raw
        self._color = color

    def write(self, text: str) -> int:
        return self.raw.write(escaped(text if self._color else _COLOR.sub("", text)))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def escaping(holder: Any, *names: str, color: bool | None) -> Iterator[None]:
    """Make streams of a module (sys) escape what is written to them. color: None: if it is a
    terminal."""
    before = {name: getattr(holder, name) for name in names}
    for name, stream in before.items():
        setattr(holder, name, Escaping(stream, stream.isatty() if color is None else color))
    try:
        yield
    finally:
        for name, stream in before.items():
            setattr(holder, name, stream)
