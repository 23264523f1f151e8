"""Revisions from outside: TOML files, and entry points of the group shstk.revisions.

Such a revision is a name for a base revision and switches. A run records these, so that whoever
reads it does not need the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shstk.schemas.errors import ShstkError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

GROUP: Final = "shstk.revisions"
_KEYS: Final = ("base", "switches", "sources")
_HINT: Final = "docs/extending.md tells what a revision of your own is"


class BadRevision(ShstkError):
    """A revision from outside cannot be read; `what` names the file or the entry point."""


@dataclass(frozen=True)
class Own:
    """base: a revision of shstk. switches: name -> value; sources: name -> where it says so."""

    where: str
    base: str
    switches: Mapping[str, str]
    sources: Mapping[str, str] = field(default_factory=dict)


def find(name: str) -> Own | None:
    """The revision in a file NAME.toml, or installed under a name. Raises BadRevision."""
    if name.endswith(".toml"):
        return _own(_read(Path(name)), name)
    for entry in _entries(name):
        where = f"entry point {entry.name} = {entry.value}"
        try:
            return _own(entry.load(), where)
        except (ImportError, AttributeError) as error:
            raise BadRevision(f"{where}: {error}", _HINT) from error
    return None


def installed() -> list[str]:
    return sorted(entry.name for entry in _entries())


def _entries(name: str | None = None) -> EntryPoints:
    from importlib.metadata import entry_points  # a third of the time of --help

    return entry_points(group=GROUP, name=name) if name else entry_points(group=GROUP)


def _read(path: Path) -> Any:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadRevision(f"{path}: {error}", "it is not TOML") from error
    except OSError as error:
        raise BadRevision(f"{path}: {error.strerror}") from error


def _own(table: Any, where: str) -> Own:
    if not isinstance(table, dict):
        raise BadRevision(f"{where} is no table", _HINT)
    if unknown := [key for key in table if key not in _KEYS]:
        raise BadRevision(f"{where}: unknown key {unknown[0]!r}", f"there are {', '.join(_KEYS)}")
    base, switches, sources = (table.get(key, {}) for key in _KEYS)
    if not isinstance(base, str):
        raise BadRevision(f"{where}: base names no revision", _HINT)
    for key, values in (("switches", switches), ("sources", sources)):
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise BadRevision(f"{where}: {key} is no table of texts", _HINT)
    if odd := [name for name in sources if name not in switches]:
        raise BadRevision(f"{where}: a source for {odd[0]}, which is not among its switches")
    if not switches:
        raise BadRevision(f"{where} has no switches: it would be {base}", _HINT)
    return Own(where, base, switches, sources)


def refused(own: Own, error: UsageError) -> BadRevision:
    """The error about a value of it, with its place."""
    return BadRevision(f"{own.where}: {error.what}", error.hint)
