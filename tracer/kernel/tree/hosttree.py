"""Trees of the host that the guest sees: a directory, or an overlay on a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.tree.beneath import Beneath

# The format of an overlay is that of OCI image layers: `.wh.NAME` hides NAME of the lower tree, and
# a directory with `.wh..wh..opq` hides the whole lower directory.
WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"
# Where the guest's changes are written before they move to their places (keep.py).
STAGING: Final = ".shstk-write-back"


def text(name: bytes) -> str:
    """A file name of the guest as str; every byte is preserved."""
    return name.decode("utf-8", "surrogateescape")


def raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class Tree(Protocol):
    """The queries of a tree. Paths are relative to its top, "".

    mode: st_mode, or None if the path does not exist. names: the unsorted names in a directory.
    read: the contents of a file. target: the target of a symlink. Errno EACCES.
    """

    def mode(self, path: str) -> int | None: ...
    def names(self, path: str) -> list[str]: ...
    def read(self, path: str) -> bytes: ...
    def target(self, path: str) -> str: ...


class HostTree:
    """A read-only directory of the host, or a single file, which is the top itself.

    Symlinks are never followed here. The guest's path walk resolves them, and it passes only paths
    whose every component it knows to be a directory. root: an absolute path without symlinks.
    hidden: host paths that the guest does not see: the run that is being recorded. Nor does it see
    the staging directory.
    """

    def __init__(self, root: str, hidden: Iterable[str] = ()) -> None:
        self.root = root
        self.place = Beneath.at(raw(root))
        within = root.rstrip("/") + "/"
        inside = {path.removeprefix(within) for path in hidden if path.startswith(within)}
        self._hidden = frozenset(inside | {STAGING})

    def hides(self, path: str) -> bool:
        """Whether a path is hidden, or beneath a hidden one, or above one."""
        at = f"{path}/"
        return any(at.startswith(f"{hidden}/") or hidden.startswith(at) for hidden in self._hidden)

    def mode(self, path: str) -> int | None:
        if path in self._hidden:
            return None
        try:
            return self.place.status(raw(path)).st_mode
        except OSError:
            return None

    def names(self, path: str) -> list[str]:
        """The names in a directory, without those and the file types that the guest doesn't see."""
        try:
            with self.place.scan(raw(path)) as entries:
                names = [text(os.fsencode(e.name)) for e in entries if _givable(e)]
        except OSError as error:
            raise Errno("EACCES") from error
        unseen = {os.path.basename(p) for p in self._hidden if os.path.dirname(p) == path}
        return [name for name in names if name not in unseen]

    def read(self, path: str) -> bytes:
        try:
            return self.place.read(raw(path))
        except OSError as error:
            raise Errno("EACCES") from error

    def holds(self, path: str) -> bool:
        """Whether the path is a directory and no component is a symlink."""
        try:
            with self.place.folder(raw(path)):
                return True
        except OSError:
            return False

    def target(self, path: str) -> str:
        try:
            return text(self.place.target(raw(path)))
        except OSError as error:
            raise Errno("EACCES") from error


def _givable(entry: os.DirEntry[str]) -> bool:
    plain = entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)
    return plain or entry.is_symlink()


@dataclass(frozen=True)
class Layers:
    """An overlay on a lower tree."""

    upper: HostTree
    lower: HostTree

    def mode(self, path: str) -> int | None:
        found = self.upper.mode(path)
        return self.lower.mode(path) if found is None and not self._hidden(path) else found

    def names(self, path: str) -> list[str]:
        marked = set(self.upper.names(path)) if self.upper.holds(path) else set()
        names = {name for name in marked if not name.startswith(WHITEOUT)}
        if OPAQUE not in marked and self.lower.holds(path):
            names |= {n for n in self.lower.names(path) if WHITEOUT + n not in marked}
        return list(names)

    def read(self, path: str) -> bytes:
        return self._layer(path).read(path)

    def target(self, path: str) -> str:
        return self._layer(path).target(path)

    def _layer(self, path: str) -> HostTree:
        return self.lower if self.upper.mode(path) is None else self.upper

    def _hidden(self, path: str) -> bool:
        """Whether the overlay hides the lower tree's entry."""
        folder, name = os.path.split(path)
        marks = (os.path.join(folder, mark) for mark in (WHITEOUT + name, OPAQUE))
        return any(self.upper.mode(mark) for mark in marks) or not self.lower.holds(folder)
