"""A tree that queries another one once for each path: the first answer is valid for the whole run.
It is recorded as a row, from which a RecordedTree can answer when the run is executed again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shstk.tracer.kernel.errno import Errno
from shstk.tracer.kernel.tree.hosttree import Tree, raw, text

if TYPE_CHECKING:
    from shstk.tracer.kernel.kernel import Kernel


class NotRecorded(Exception):
    """The recorded run has no answer to this query."""


@dataclass
class Answers:
    """The answers of all trees of a run that are not recorded yet."""

    rows: list[tuple[int, str, str, int | None, bytes | None]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # guest paths that were not recorded

    def report(self, k: Kernel) -> None:
        """Record them as rows of the call in progress."""
        for tree, op, path, mode, data in self.rows:
            k.rec.row(
                "tree",
                seq=k.here(),
                tid=k.current.tid,
                mm=k.current.mm_id,
                tree=tree,
                op=op,
                path=raw(path),
                mode=mode,
                sha256=k.rec.file(data) if data is not None else None,
            )
        for path in self.missing:
            k.warn(f"{path}: the recorded run did not look it up, so it does not exist in this one")
        self.rows.clear()
        self.missing.clear()


class CachedTree:
    """number: index in manifest.trees. guest: the path of the tree in the guest."""

    def __init__(self, number: int, guest: str, tree: Tree, answers: Answers) -> None:
        self._number = number
        self._guest = guest.rstrip("/")
        self._tree = tree
        self._answers = answers
        self._modes: dict[str, int | None] = {}
        self._data: dict[tuple[str, str], bytes | None] = {}  # by names() and target()
        self._read: set[str] = set()

    def mode(self, path: str) -> int | None:
        if path not in self._modes:
            mode = None
            try:
                mode = self._tree.mode(path)
            except NotRecorded:
                self._miss(path)
            self._modes[path] = mode
            self._answers.rows.append((self._number, "mode", path, mode, None))
        return self._modes[path]

    def names(self, path: str) -> list[str]:
        listing = self._once("names", path)
        return [text(name) for name in listing.split(b"\0")[:-1]]

    def target(self, path: str) -> str:
        return text(self._once("target", path))

    def read(self, path: str) -> bytes:
        """Not cached here: an inode keeps its contents and reads them once."""
        data = self._ask("read", path)
        if path not in self._read:
            self._read.add(path)
            self._answers.rows.append((self._number, "read", path, None, data))
        if data is None:
            raise Errno("EACCES")
        return data

    def _once(self, op: str, path: str) -> bytes:
        if (op, path) not in self._data:
            self._data[op, path] = data = self._ask(op, path)
            self._answers.rows.append((self._number, op, path, None, data))
        answer = self._data[op, path]
        if answer is None:
            raise Errno("EACCES")
        return answer

    def _ask(self, op: str, path: str) -> bytes | None:
        """None: the tree refused (EACCES)."""
        try:
            match op:
                case "read":
                    return self._tree.read(path)
                case "target":
                    return raw(self._tree.target(path))
                case _:
                    return b"".join(raw(n) + b"\0" for n in sorted(self._tree.names(path)))
        except NotRecorded:
            self._miss(path)
        except Errno:
            pass
        return None

    def _miss(self, path: str) -> None:
        self._answers.missing.append(f"{self._guest}/{path}" if path else self._guest or "/")
