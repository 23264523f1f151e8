"""A tree that gives the host's answers at the time the run was recorded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.tree.cachedtree import NotRecorded
from shstk.tracer.kernel.tree.hosttree import text


class RecordedTree:
    """rows: this tree's rows of the table `tree`. files: the directory of the answers, by sha256.

    A query raises NotRecorded if the recorded run neither made it nor listed a directory whose
    names answer it.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], files: Path) -> None:
        self._files = files
        self._modes: dict[str, int | None] = {}
        self._hashes: dict[tuple[str, str], str | None] = {}
        for row in rows:
            path = text(row["path"])
            if row["op"] == "mode":
                self._modes[path] = row["mode"]
            else:
                self._hashes[row["op"], path] = row["sha256"]

    def mode(self, path: str) -> int | None:
        if path in self._modes:
            return self._modes[path]
        folder, name = os.path.split(path)
        if self._hashes.get(("names", folder)) and name not in self.names(folder):
            return None
        raise NotRecorded(path)

    def names(self, path: str) -> list[str]:
        return [text(name) for name in self._bytes("names", path).split(b"\0")[:-1]]

    def read(self, path: str) -> bytes:
        return self._bytes("read", path)

    def target(self, path: str) -> str:
        return text(self._bytes("target", path))

    def _bytes(self, op: str, path: str) -> bytes:
        if (op, path) not in self._hashes:
            raise NotRecorded(path)
        sha256 = self._hashes[op, path]
        if sha256 is None:
            raise Errno("EACCES")
        return (self._files / sha256).read_bytes()
