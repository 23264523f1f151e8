"""A project's settings: [tool.shstk] of pyproject.toml, or a shstk.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from shstk.schemas.errors import UsageError
from shstk.schemas.nearest import did_you_mean


@dataclass(frozen=True)
class Setting:
    """A value, and where it stands."""

    value: Any
    source: str


@dataclass(frozen=True)
class Settings:
    """What one file sets. per_program: by the glob of a program's name, in the file's order."""

    path: Path | None = None
    values: Mapping[str, Setting] = field(default_factory=dict)
    per_program: Mapping[str, Mapping[str, Setting]] = field(default_factory=dict)

    def of(self, program: str) -> Mapping[str, Setting]:
        """The settings for a program: what a matching table sets takes the place of the general
        value, and what a later one sets that of an earlier one's."""
        matching = [own for glob, own in self.per_program.items() if fnmatchcase(program, glob)]
        return {name: value for own in matching for name, value in own.items()}


def _text(value: Any, folder: Path) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def _texts(value: Any, folder: Path) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def _path(value: Any, folder: Path) -> Path:
    return folder / _text(value, folder)


def _paths(value: Any, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in _texts(value, folder))


# key -> what reads its value; paths are relative to the file's folder
KEYS: Final[dict[str, Callable[[Any, Path], Any]]] = {
    "select": _texts,
    "ignore": _texts,
    "expect": _text,
    "kernels": _texts,
    "fail-on": _texts,
    "baseline": _path,
    "rules-from": _paths,
}
_OF_PROGRAM: Final = {name: KEYS[name] for name in ("select", "ignore", "expect")}
_TABLE: Final = "per-program"


def find(folder: Path) -> Path | None:
    """The nearest file with settings, from a folder upwards. A pyproject.toml without [tool.shstk]
    is none."""
    for place in (folder, *folder.parents):
        for path in (place / "shstk.toml", place / "pyproject.toml"):
            if path.is_file() and (path.name == "shstk.toml" or "shstk" in _tools(path)):
                return path
    return None


def load(path: Path) -> Settings:
    """The settings in a file. Raises UsageError that names the file, and OSError."""
    table = _tools(path).get("shstk", {}) if path.name == "pyproject.toml" else _parsed(path)
    if not isinstance(table, dict):
        raise UsageError(f"{path}: tool.shstk is no table")
    programs = table.pop(_TABLE, {})
    if not isinstance(programs, dict) or not all(isinstance(t, dict) for t in programs.values()):
        raise UsageError(f"{path}: {_TABLE} is no table of tables", f'[{_TABLE}."pthread*"]')
    return Settings(
        path,
        _read(path, table, {**KEYS, _TABLE: _text}, ""),
        {glob: _read(path, own, _OF_PROGRAM, f"{_TABLE} {glob}") for glob, own in programs.items()},
    )


def _read(
    path: Path, table: dict[str, Any], known: Mapping[str, Callable[[Any, Path], Any]], where: str
) -> dict[str, Setting]:
    source = f"{path}, {where}" if where else str(path)
    found = {}
    for name, value in table.items():
        if name not in known:
            near = did_you_mean(name, known)
            hint = f"there are {', '.join(known)}"
            raise UsageError(f"{source}: unknown key {name!r}", f"{near} {hint}".strip())
        try:
            found[name] = Setting(known[name](value, path.parent), source)
        except ValueError as error:
            raise UsageError(f"{source}: {name} is not {error}") from None
    return found


def _tools(path: Path) -> dict[str, Any]:
    tools = _parsed(path).get("tool", {})
    return tools if isinstance(tools, dict) else {}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", "it is not TOML") from error
