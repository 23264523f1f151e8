"""Values in the notation of listings: numbers, names, areas, bytes, seqs."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any, Final

from shstk.schemas import seq, uapi
from shstk.schemas.rows import INTEGERS
from shstk.schemas.tables import Column

CONSTANTS: Final[dict[str, int]] = {
    **{name: value for name, value in vars(uapi).items() if type(value) is int},
    **uapi.ERRNO,
    **uapi.SIGNALS,
}
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_ZEROS: Final = 2**20
_TERM: Final = re.compile(r"[+-]?[^+-]+")
_NUMBER: Final = re.compile(r"(0x[0-9a-fA-F_]+|0o[0-7]+|0|[1-9][0-9_]*)([KMG]?)")
_TASK: Final = re.compile(r"(?:t|mm)([0-9]+)")


@dataclass(frozen=True)
class Area:
    """`SIZE@BASE`."""

    base: int
    size: int

    @property
    def top(self) -> int:
        return self.base + self.size

    def touches(self, other: Area) -> bool:
        return self.base < other.top and other.base < self.top


class BadValue(ValueError):
    """A value that cannot be read; str() is the message."""


class Names:
    """The listing's `NAME = value` definitions, over the constants of the interfaces."""

    def __init__(self) -> None:
        self._own: dict[str, int | Area] = {}

    def define(self, name: str, text: str) -> None:
        self._own[name] = self.area(text) if "@" in text else self.number(text)

    def area(self, text: str) -> Area:
        """`SIZE@BASE`, or the name of one."""
        found = self._own.get(text)
        if isinstance(found, Area):
            return found
        size, at, base = text.partition("@")
        if not at:
            raise BadValue(f"{text} is not an area: expected SIZE@BASE or the name of one")
        return Area(self.number(base), self.number(size))

    def is_area(self, text: str) -> bool:
        return "@" in text or isinstance(self._own.get(text), Area)

    def number(self, text: str) -> int:
        """Terms joined by | and +, -."""
        value = 0
        for part in text.split("|"):
            terms = _TERM.findall(part)
            if not terms or "".join(terms) != part:
                raise BadValue(f"{text!r} is not a number")
            value |= sum(self._term(term) for term in terms)
        return value

    def _term(self, term: str) -> int:
        if term[0] in "+-":
            return self._term(term[1:]) * (-1 if term[0] == "-" else 1)
        if match := _NUMBER.fullmatch(term):
            return int(match[1].replace("_", ""), 0) * _UNITS[match[2]]
        if match := _TASK.fullmatch(term):
            return int(match[1])
        name, dot, part = term.partition(".")
        found = self._own.get(name, CONSTANTS.get(name))
        if found is None:
            raise BadValue(f"{term!r} is neither a number nor a name defined before")
        if isinstance(found, Area):
            if part not in ("base", "size", "top"):
                raise BadValue(f"{term} is an area: use {name}.base, {name}.size or {name}.top")
            value: int = getattr(found, part)
            return value
        if dot:
            raise BadValue(f"{name} is a number: it has no .{part}")
        return found

    def data(self, text: str) -> bytes:
        """`"text"`, or parts joined by commas: `hex:00ff`, `u32:VALUE`, `u64:VALUE`,
        `zero:COUNT`."""
        if text.startswith('"'):
            return self.text(text).encode()
        return b"".join(self._part(part) for part in text.split(","))

    def _part(self, text: str) -> bytes:
        kind, _, rest = text.partition(":")
        try:
            if kind == "hex":
                return bytes.fromhex(rest)
            if kind in ("u32", "u64"):
                bits = int(kind[1:])
                return (self.number(rest) & ((1 << bits) - 1)).to_bytes(bits // 8, "little")
            if kind == "zero":
                return bytes(self._count(rest))
        except ValueError as e:
            raise BadValue(f"{text}: {e}") from e
        raise BadValue(
            f'{text} is not bytes: expected "text", hex:0011, u32:VALUE, u64:VALUE or zero:COUNT'
        )

    def _count(self, text: str) -> int:
        count = self.number(text)
        if not 0 <= count <= _ZEROS:
            raise BadValue(f"{count} zeros: expected 0 to {_ZEROS}")
        return count

    def text(self, text: str) -> str:
        """A word, or in quotes with Python's escapes."""
        if not text.startswith('"'):
            return text
        try:
            return str(ast.literal_eval(text))
        except (SyntaxError, ValueError) as e:
            raise BadValue(f"{text} is not one quoted text") from e

    def value(self, column: Column, text: str) -> Any:
        """What the text means in a column of a table."""
        if text == "-":
            return None
        if column.unit == "seq":
            try:
                return seq.parse(text)
            except (ValueError, OverflowError) as e:
                raise BadValue(str(e)) from e
        if column.base == "bool":
            if text not in ("true", "false"):
                raise BadValue(f"{text} is neither true nor false")
            return text == "true"
        if column.base == "bytes":
            return self.data(text)
        if column.base not in INTEGERS:
            return self.text(text)
        number = as_held(column, self.number(text))
        low, high = INTEGERS[column.base]
        if not low <= number <= high:
            raise BadValue(f"{text} does not fit into {column.name} ({column.base})")
        return number


def as_held(column: Column, number: int) -> int:
    """As a register holds it: -100 for AT_FDCWD as an argument, a high address as a result."""
    if column.base == "u64" and -(2**63) <= number < 0:
        return number + 2**64
    if column.base == "i64" and 2**63 <= number < 2**64:
        return number - 2**64
    return number
